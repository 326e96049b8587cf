"""What a drafter found on a page: lines of text and the regions they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal[
    "text", "title", "list", "table", "formula", "figure", "caption", "footnote", "code",
    "header", "footer", "page_number",
]  # fmt: skip
FURNITURE = frozenset({"header", "footer", "page_number"})  # kinds that repeat from page to page


class Box(NamedTuple):
    """A rectangle in page pixels, origin at the top left.

    >>> Box(0, 0, 10, 4).overlap(Box(5, 2, 20, 20))
    0.25
    """

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels from left to right, never negative."""
        return max(0.0, self.right - self.left)

    @property
    def height(self) -> float:
        """Pixels from top to bottom, never negative."""
        return max(0.0, self.bottom - self.top)

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """Middle (x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def meet(self, other: "Box") -> "Box":
        """The part both share; empty (area 0) where they are apart."""
        return Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def overlap(self, other: "Box") -> float:
        """Share of this box that lies in the other."""
        return self.meet(other).area / self.area if self.area else 0.0

    def inside(self, page: "Box") -> "Box":
        """This box cut to the page."""
        left, top = max(self.left, page.left), max(self.top, page.top)
        return Box(
            left,
            top,
            max(left, min(self.right, page.right)),
            max(top, min(self.bottom, page.bottom)),
        )


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return Box(min(left), min(top), max(right), max(bottom))


@dataclass(frozen=True)
class Line:
    """One line of recognised text.

    Args:
        text: What it says.
        box: Where it stands.
        score: The recogniser's confidence, 0 to 1.
    """

    text: str
    box: Box
    score: float = 1.0


@dataclass(frozen=True)
class Region:
    """A piece of a page that a target writes in one go.

    Args:
        box: Where it stands, in page pixels.
        kind: What it is.
        text: Its draft; LaTeX without delimiters for a formula, text without marks for a title.
        cells: A table's rows, where the drafter found them.
        score: The drafter's confidence, 0 to 1.
    """

    box: Box
    kind: Kind
    text: str = ""
    cells: tuple[tuple[str, ...], ...] = field(default=())
    score: float = 1.0
