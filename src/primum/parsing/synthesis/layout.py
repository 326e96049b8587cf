"""Blocks set in columns: which line stands where, in pixels from the page's upper left corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from primum.parsing.regions import Box, around
from primum.parsing.synthesis.blocks import Block
from primum.parsing.synthesis.fonts import Family, sized, width_of
from primum.parsing.synthesis.formulas import drawn


@dataclass(frozen=True)
class Run:
    """A line of text, or a formula where `latex` says so.

    Attributes:
        text: What it says.
        box: Where its ink may be.
        face: Font file.
        size: Pixels an em.
        latex: Whether `text` is a formula to be drawn.
    """

    text: str
    box: Box
    face: Path
    size: int
    latex: bool = False


@dataclass(frozen=True)
class Placed:
    """A block on its page, with its lines and a table's rules (left, top, right, bottom)."""

    block: Block
    box: Box
    runs: tuple[Run, ...]
    rules: tuple[Box, ...] = field(default=())


@dataclass(frozen=True)
class Style:
    """How a page is set.

    Attributes:
        family: Typeface.
        size: Pixels an em of the text.
        leading: Distance of lines in ems.
        gap: Distance of blocks in ems.
    """

    family: Family
    size: int
    leading: float = 1.3
    gap: float = 0.7


def wrapped(text: str, width: float, face: Path, size: int) -> list[str]:
    """Lines no wider than `width` where words allow."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and width_of(longer, face, size) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line]


def line_box(text: str, left: float, top: float, face: Path, size: int) -> Box:
    """Where a line's ink may be: its advance wide, from ascender to descender."""
    ascent, descent = sized(face, size).getmetrics()
    return Box(left, top, left + width_of(text, face, size), top + ascent + descent)


def middles(run: Run) -> tuple[float, ...]:
    """Where a line's characters have their middle, in pixels from the page's left edge."""
    wide = [width_of(letter, run.face, run.size) for letter in run.text]
    stretch = run.box.width / max(sum(wide), 1e-6)  # kerning moves them a little
    edge, found = run.box.left, []
    for width in wide:
        found.append(edge + width * stretch / 2)
        edge += width * stretch
    return tuple(found)


def place(block: Block, left: float, top: float, width: float, style: Style) -> Placed:
    """A block in a column."""
    if block.kind == "table":
        return place_table(block, left, top, width, style)
    if block.kind == "formula":
        ink = drawn(block.text, style.size)
        middle = left + max(0.0, (width - ink.shape[1]) / 2)
        box = Box(middle, top, middle + ink.shape[1], top + ink.shape[0])
        run = Run(block.text, box, style.family.regular, style.size, latex=True)
        return Placed(block, box, (run,))
    bold = block.kind == "heading"
    size = round(style.size * 1.25) if bold else style.size
    face = style.family.face(bold)
    runs: list[Run] = []
    for text in block.items or (block.text,):
        mark = "- " if block.items else ""
        indent = width_of(mark, face, size)
        for number, line in enumerate(wrapped(text, width - indent, face, size)):
            shown = mark + line if number == 0 else line
            start = left if number == 0 else left + indent
            runs.append(Run(shown, line_box(shown, start, top, face, size), face, size))
            top += round(size * style.leading)
    return Placed(block, around([run.box for run in runs]), tuple(runs))


def place_table(block: Block, left: float, top: float, width: float, style: Style) -> Placed:
    """A ruled grid, columns as wide as their widest cell."""
    pad, size = round(style.size * 0.4), style.size
    height = round(size * style.leading) + pad
    faces = [style.family.face(number == 0) for number in range(len(block.rows))]
    widths = [
        max(width_of(cell, face, size) for cell, face in zip(column, faces, strict=True)) + 2 * pad
        for column in zip(*block.rows, strict=True)
    ]
    edges = [round(left + sum(widths[:number])) for number in range(len(widths) + 1)]
    runs = [
        Run(cell, line_box(cell, edge + pad, top + row * height + pad, face, size), face, size)
        for row, (cells, face) in enumerate(zip(block.rows, faces, strict=True))
        for cell, edge in zip(cells, edges, strict=False)
    ]
    box = Box(edges[0], top, edges[-1], top + height * len(block.rows))
    across = [
        Box(box.left, top + row * height, box.right, top + row * height)
        for row in range(len(block.rows) + 1)
    ]
    down = [Box(edge, box.top, edge, box.bottom) for edge in edges]
    return Placed(block, box, tuple(runs), (*across, *down))


def set_page(
    blocks: Sequence[Block], size: tuple[int, int], columns: int, margin: int, style: Style
) -> list[Placed]:
    """Blocks from the top, column by column; what finds no room, or is too wide, is left out.

    Args:
        blocks: In reading order.
        size: (width, height) of the page.
        columns: How many.
        margin: Pixels around the page and between columns.
        style: How they are set.
    """
    width, height = size
    column_width = (width - margin * (columns + 1)) / columns
    found: list[Placed] = []
    column, top = 0, float(margin)
    for block in blocks:
        while column < columns:
            left = margin + column * (column_width + margin)
            placed = place(block, left, top, column_width, style)
            if placed.box.bottom <= height - margin:
                break
            column, top = column + 1, float(margin)
        else:
            return found
        if placed.box.right > left + column_width + 1:
            continue
        found.append(placed)
        top = round(placed.box.bottom + style.size * style.gap)
    return found
