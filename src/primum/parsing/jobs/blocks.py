"""A page's Markdown taken apart into blocks, each with its category and its place on the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from primum.extras import require
from primum.parsing.regions import FURNITURE, Box, Region, around

ALIKE = 70  # of 100, from which on a drafted region and a block are taken for the same text
LIST = re.compile(r"([-*+•]|\d+[.)])\s")
FIGURE = "figure"


@dataclass(frozen=True)
class Block:
    """A block of the output.

    Attributes:
        category: title, text, list, table, formula, figure, or what a drafter calls its region.
        text: Markdown; the path of a figure's picture.
        box: In pixels of the page as it was read; None where nobody said.
    """

    category: str
    text: str
    box: Box | None = None


def split(markdown: str) -> list[str]:
    """Blocks between blank lines; a table is one block whatever it holds."""
    parts: list[str] = []
    for part in re.split(r"\n\s*\n", markdown.strip()):
        inside = bool(parts) and parts[-1].count("<table") > parts[-1].count("</table")
        if inside:
            parts[-1] += "\n\n" + part
        elif part.strip():
            parts.append(part)
    return parts


def category(text: str, found: Sequence[Region] = ()) -> str:
    """What a block is by its Markdown, or else by the regions it was found in."""
    if text.startswith("#"):
        return "title"
    if "<table" in text or text.startswith("|"):
        return "table"
    if text.startswith(("$$", "\\[")):
        return "formula"
    if text.startswith("```"):
        return "code"
    kinds = [region.kind for region in found]
    if kinds and all(kind in FURNITURE or kind in ("caption", "footnote") for kind in kinds):
        return kinds[0]
    return "list" if LIST.match(text) else "text"


def placed(markdown: str, regions: Sequence[Region]) -> list[Block]:
    """Blocks with the boxes of the regions that say the same, in the order of the output.

    Args:
        markdown: What the model wrote.
        regions: What a drafter, or the model itself, found on the page.
    """
    ratio = require("rapidfuzz.fuzz", "parsing").partial_ratio
    blocks = split(markdown)
    plain = [letters(block) for block in blocks]
    homes: list[list[Region]] = [[] for _ in blocks]
    for region in regions:
        said = letters(region.text or " ".join(cell for row in region.cells for cell in row))
        if not said or region.kind == FIGURE:
            continue
        scores = [
            ratio(said, block) * min(1.0, 1.25 * len(block) / len(said)) if block else 0.0
            for block in plain
        ]
        if scores and (best := max(scores)) >= ALIKE:
            homes[scores.index(best)].append(region)
    return [
        Block(category(text, found), text, around([one.box for one in found]) if found else None)
        for text, found in zip(blocks, homes, strict=True)
    ]


def with_figures(blocks: Sequence[Block], figures: Sequence[Block]) -> list[Block]:
    """Figures among the other blocks: behind the last one that stands above it."""
    result = list(blocks)
    for figure in figures:
        assert figure.box is not None
        above = [
            place
            for place, block in enumerate(result)
            if block.box is not None and before(block.box, figure.box)
        ]
        result.insert(above[-1] + 1 if above else 0, figure)
    return result


def before(first: Box, second: Box) -> bool:
    """Whether a box is read before another: above it in its own column, or in a column before."""
    shared = min(first.right, second.right) - max(first.left, second.left)
    if shared > 0.2 * min(first.width, second.width):
        return first.centre[1] < second.centre[1]
    return first.right <= second.left


def letters(text: str) -> str:
    """What counts when texts are compared: no tags, marks or spaces."""
    return re.sub(r"[\W_]+", "", re.sub(r"<[^>]+>", "", text)).lower()
