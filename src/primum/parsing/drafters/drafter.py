"""What every drafter does: look at a page, say what seems to stand on it."""

from typing import Any, Protocol

from primum.parsing.regions import Region


class Drafter(Protocol):
    """A source of regions.

    Attributes:
        name: Shown in reports.
    """

    name: str

    def __call__(self, image: Any) -> list[Region]:
        """Regions of a page image (PIL, RGB) in reading order, boxes in its pixels."""
