"""Tables in OTSL (Lysak et al., ICDAR 2023, arXiv 2305.03393): a token a cell, a token a line.

`<fcel>` is a cell with text, `<ecel>` an empty one, `<lcel>` belongs to the cell on its left,
`<ucel>` to the one above, `<xcel>` to both; `<ched>`, `<rhed>` and `<srow>` are heads of columns,
rows and sections; `<nl>` ends a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

CELLS = ("fcel", "ecel", "lcel", "ucel", "xcel", "ched", "rhed", "srow")
_TOKEN = re.compile(
    rf"<({'|'.join((*CELLS, 'nl'))})>([^<]*(?:<(?!(?:{'|'.join(CELLS)}|nl)>)[^<]*)*)"
)
_HEADS = frozenset({"ched", "rhed", "srow"})


def written(rows: Sequence[Sequence[str]], head: bool = False) -> str:
    """Rows of cells in OTSL; no cell is merged.

    >>> written([["a", "b"], ["1", ""]])
    '<fcel>a<fcel>b<nl><fcel>1<ecel><nl>'
    """
    first = "<ched>" if head else "<fcel>"
    lines = []
    for number, row in enumerate(rows):
        mark = "<fcel>" if number else first
        lines.append("".join(f"{mark}{cell}" if cell else "<ecel>" for cell in row) + "<nl>")
    return "".join(lines)


def html(text: str) -> str:
    """OTSL as an HTML table; a text without its tokens as it is.

    >>> html("<fcel>a<lcel><nl><fcel>1<fcel>2<nl>")
    '<table><tr><td colspan="2">a</td></tr><tr><td>1</td><td>2</td></tr></table>'
    """
    grid: list[list[tuple[str, str]]] = [[]]
    for match in _TOKEN.finditer(text):
        if match[1] == "nl":
            grid.append([])
        else:
            grid[-1].append((match[1], match[2].strip()))
    grid = [row for row in grid if row]
    if not grid:
        return text
    lines = []
    for at, row in enumerate(grid):
        cells = []
        for place, (token, words) in enumerate(row):
            if token in ("lcel", "ucel", "xcel"):
                continue
            tag = "th" if token in _HEADS else "td"
            across, down = _reach(grid, at, place)
            spans = f' rowspan="{down}"' * (down > 1) + f' colspan="{across}"' * (across > 1)
            cells.append(f"<{tag}{spans}>{escape(words, quote=False)}</{tag}>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _reach(grid: Sequence[Sequence[tuple[str, str]]], at: int, place: int) -> tuple[int, int]:
    """Columns and rows that a cell takes."""
    row = grid[at]
    across = 1
    while place + across < len(row) and row[place + across][0] == "lcel":
        across += 1
    down = 1
    while at + down < len(grid):
        below = grid[at + down]
        if place >= len(below) or below[place][0] not in ("ucel", "xcel"):
            break
        down += 1
    return across, down
