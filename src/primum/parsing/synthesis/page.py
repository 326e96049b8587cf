"""A page from a seed: its picture, its Markdown, its annotations and its PDF twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from PIL import Image

from primum.errors import UserError
from primum.parsing.regions import Box
from primum.parsing.synthesis import GENERATOR
from primum.parsing.synthesis.blocks import Block, Kind, make_block
from primum.parsing.synthesis.drawing import pdf, picture
from primum.parsing.synthesis.fonts import families
from primum.parsing.synthesis.layout import Placed, Style, set_page

CATEGORIES = {
    "heading": "title", "paragraph": "text_block", "list": "text_block", "table": "table",
    "formula": "equation_isolated",
}  # fmt: skip
PACKAGED = ("dejavu-sans", "dejavu-serif", "stix", "vera")


@dataclass(frozen=True)
class Recipe:
    """A class of pages.

    Attributes:
        families: Typefaces, one of them a page.
        sizes: Smallest and largest text, in pixels an em.
        width: Of the page in pixels, at least and at most.
        height: Of the page at most; a page ends below its last block.
        columns: How many there may be.
        characters: Of a page's text, at least and at most.
        paragraph: Characters of a paragraph at most.
        chances: How likely a page has one of each kind besides paragraphs.
        strange: Share of nouns that are invented.
        margin: Pixels around the page.
        multiple: Width and height are multiples of it.
    """

    families: tuple[str, ...] = PACKAGED
    sizes: tuple[int, int] = (12, 16)
    width: tuple[int, int] = (320, 448)
    height: int = 640
    columns: tuple[int, ...] = (1,)
    characters: tuple[int, int] = (150, 600)
    paragraph: int = 260
    chances: dict[Kind, float] = field(
        default_factory=lambda: {"heading": 0.5, "list": 0.25, "table": 0.25, "formula": 0.15}
    )
    strange: float = 0.3
    margin: int = 12
    multiple: int = 16


@dataclass(frozen=True)
class SyntheticPage:
    """What was made, in pixels from the upper left corner.

    Attributes:
        seed: It is made again from this and the recipe.
        image: Grey.
        placed: Blocks in reading order.
        columns: How many the page has.
        family: Its typeface.
    """

    seed: int
    image: Image.Image
    placed: tuple[Placed, ...]
    columns: int
    family: str

    @property
    def markdown(self) -> str:
        """What a parser should write."""
        return "\n\n".join(one.block.markdown for one in self.placed)

    def pdf(self) -> bytes:
        """The page as a born-digital PDF."""
        return pdf([(self.placed, self.image.size)])

    def annotation(self, name: str) -> dict[str, Any]:
        """The page in OmniDocBench's schema; `name` is the file of its picture."""
        width, height = self.image.size
        return {
            "layout_dets": [annotated(one, number) for number, one in enumerate(self.placed, 1)],
            "extra": {"relation": []},
            "page_info": {
                "page_no": 0,
                "height": height,
                "width": width,
                "image_path": name,
                "page_attribute": {
                    "data_source": "synthetic",
                    "language": "english",
                    "layout": "single_column" if self.columns == 1 else "double_column",
                    "special_issue": ["None"],
                    "typeface": self.family,
                    "generator": f"primum {GENERATOR}, seed {self.seed}",
                },
            },
        }


def annotated(placed: Placed, order: int) -> dict[str, Any]:
    """A block as OmniDocBench annotates it."""
    block = placed.block
    content = {"table": {"html": block.html}, "formula": {"latex": f"$${block.text}$$"}}.get(
        block.kind, {"text": block.markdown.removeprefix("# ")}
    )
    lines = [
        {"category_type": "text_span", "poly": corners(run.box), "text": run.text}
        for run in placed.runs
        if not run.latex
    ]
    attribute = {
        "table": {"table_layout": "horizontal", "with_span": False, "line": "full_line",
                  "language": "table_en"},
        "formula": {"formula_type": "print"},
    }.get(block.kind, {"text_language": "text_english", "text_background": "white",
                       "text_rotate": "normal"})  # fmt: skip
    return {
        "category_type": CATEGORIES[block.kind],
        "poly": corners(placed.box),
        "ignore": False,
        "order": order,
        "anno_id": order,
        **content,
        "line_with_spans": lines,
        "attribute": attribute,
    }


def corners(box: Box) -> list[float]:
    """A box as eight numbers, clockwise from the upper left."""
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def make_page(seed: int, recipe: Recipe = Recipe()) -> SyntheticPage:
    """The page of a seed; the same one each time.

    Raises:
        UserError: The recipe leaves no room for any text.
    """
    luck = Random(f"page {GENERATOR} {seed}")
    family = luck.choice(families(recipe.families))
    style = Style(
        family,
        luck.randint(*recipe.sizes),
        leading=luck.uniform(1.25, 1.5),
        gap=luck.uniform(0.5, 1.0),
    )
    columns = luck.choice(recipe.columns)
    width = rounded(luck.randint(*recipe.width), recipe.multiple)
    blocks = make_blocks(luck, recipe)
    tall = recipe.height
    if columns > 1:  # columns of about the same length
        alone = set_page(blocks, (width // columns, 10**6), 1, recipe.margin, style)
        filled = max((one.box.bottom for one in alone), default=0.0) / columns
        tall = min(tall, round(1.15 * filled) + 2 * recipe.margin)
    placed = set_page(blocks, (width, tall), columns, recipe.margin, style)
    if not placed:
        raise UserError("This recipe's pages are too small for its text", remedy="make them larger")
    bottom = max(one.box.bottom for one in placed)
    height = rounded(bottom + recipe.margin, recipe.multiple)
    ink, paper = luck.randint(0, 60), luck.randint(235, 255)
    image = picture(placed, (width, height), ink, paper)
    return SyntheticPage(seed, image, tuple(placed), columns, family.name)


def make_blocks(luck: Random, recipe: Recipe) -> list[Block]:
    """A page's blocks in reading order: a heading first, the rest mixed."""
    left = luck.randint(*recipe.characters)
    special: list[Kind] = [
        kind for kind, chance in recipe.chances.items() if luck.random() < chance
    ]
    blocks = [
        make_block(kind, luck, min(left // 2, recipe.paragraph), recipe.strange) for kind in special
    ]
    left -= sum(len(block.markdown) for block in blocks)
    most, least = recipe.paragraph, min(24, recipe.characters[0])
    paragraphs = 0
    while left > least or not paragraphs:
        size = min(max(left, least), luck.randint(min(8, most), most))
        blocks.append(make_block("paragraph", luck, size, recipe.strange))
        left -= size
        paragraphs += 1
    first = [block for block in blocks if block.kind == "heading"]
    rest = [block for block in blocks if block.kind != "heading"]
    luck.shuffle(rest)
    return first + rest


def rounded(length: float, multiple: int) -> int:
    """Up to the next multiple."""
    return -(-int(length) // multiple) * multiple


def make_pdf(pages: Sequence[SyntheticPage]) -> bytes:
    """Several pages as one born-digital PDF."""
    return pdf([(page.placed, page.image.size) for page in pages])
