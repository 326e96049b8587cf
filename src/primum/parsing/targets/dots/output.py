"""What dots.ocr writes: a JSON list of cells, read whatever state it is in.

A raw quote never stands before `bbox` inside a JSON string, where it would be escaped, so cells are
found by how they begin. Each is parsed on its own: a broken one costs no other, and of a truncated
one everything that was written is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

CATEGORIES = (
    "Caption", "Footnote", "Formula", "List-item", "Page-footer", "Page-header", "Picture",
    "Section-header", "Table", "Text", "Title",
)  # fmt: skip

_BEGIN = re.compile(r'\{\s*"bbox"')
_BOX = re.compile(r'"bbox"\s*:\s*\[([^\]"{}]*)(\])?')
_CATEGORY = re.compile(r'"category"\s*:\s*"([^"]*)')
_TEXT = re.compile(r'"text"\s*:\s*"(.*)', re.S)
_TAIL = re.compile(r'"\s*\}?[\s,\]]*\Z')
_CUT = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?\Z")
_ESCAPE = re.compile(r'\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|["\\]')


@dataclass(frozen=True)
class Cell:
    """One piece of a page.

    Args:
        box: Left, top, right, bottom in input pixels; None where it was cut off.
        category: One of `CATEGORIES`, or whatever the model wrote; empty where it was cut off.
        text: Markdown, HTML of a table, LaTeX of a formula; None where the cell has none.
        whole: Whether it was complete, valid JSON.
    """

    box: tuple[int, int, int, int] | None
    category: str
    text: str | None = None
    whole: bool = True

    def told(self) -> dict[str, Any]:
        """As the model writes it."""
        found: dict[str, Any] = {"bbox": None if self.box is None else list(self.box)}
        found["category"] = self.category
        return found if self.text is None else found | {"text": self.text}


def read_cells(text: str) -> list[Cell]:
    """The cells of an output, whole or not; never raises.

    >>> read_cells('[{"bbox": [1, 2, 3, 4], "category": "Text", "text": "so fa')[0].text
    'so fa'
    """
    begins = [match.start() for match in _BEGIN.finditer(text)]
    ends = [*begins[1:], len(text)]
    return [_cell(text[begin:end]) for begin, end in zip(begins, ends, strict=False)]


def repaired(text: str) -> str:
    """The output as JSON that parses: unchanged where it does, else the list of its cells.

    >>> repaired('[{"bbox": [1, 2, 3, 4], "category": "Ti')
    '[{"bbox": [1, 2, 3, 4], "category": "Ti"}]'
    """
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        told = [cell.told() for cell in read_cells(text)]
        return json.dumps(told, ensure_ascii=False)
    return text


class CellStream:
    """Cells as they come to their end, from text that arrives in pieces."""

    def __init__(self) -> None:
        self.rest = ""

    def push(self, piece: str) -> list[Cell]:
        """Cells that are complete with this piece: the next one has begun, or the list ended."""
        self.rest += piece
        begins = [match.start() for match in _BEGIN.finditer(self.rest)]
        found = [_cell(self.rest[a:b]) for a, b in pairwise(begins)]
        if begins:
            self.rest = self.rest[begins[-1] :]
            last, end = _parsed(self.rest)
            if last is not None:
                self.rest = self.rest[end:]
                found.append(last)
        return found

    def close(self) -> list[Cell]:
        """What is left of a cell that was cut off."""
        rest, self.rest = self.rest, ""
        return read_cells(rest)


def without_loops(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Cells without those that repeat the one before them word for word."""
    before = None
    for cell in cells:
        if (cell.box, cell.category, cell.text) != before:
            yield cell
        before = (cell.box, cell.category, cell.text)


def _cell(text: str) -> Cell:
    return _parsed(text)[0] or _salvaged(text)


def _parsed(text: str) -> tuple[Cell | None, int]:
    """A cell that is valid JSON, and where it ends."""
    try:
        found, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0
    category, words = found.get("category", ""), found.get("text")
    box = _box(found.get("bbox"))
    if box is None or not isinstance(category, str) or not isinstance(words, str | None):
        return None, 0
    return Cell(box, category, words), end


def _salvaged(text: str) -> Cell:
    """What can be made out of a cell that is not valid JSON."""
    found = _BOX.search(text)
    numbers = re.findall(r"-?\d+(?:\.\d+)?", found[1]) if found else []
    if found and found[2] is None:
        numbers = []  # the last of them may be cut off
    category = _CATEGORY.search(text)
    words = _TEXT.search(text)
    return Cell(
        _box([float(number) for number in numbers]),
        category[1] if category else "",
        _unescaped(_TAIL.sub("", words[1])) if words else None,
        whole=False,
    )


def _box(numbers: Any) -> tuple[int, int, int, int] | None:
    """Four finite numbers as a rectangle, its corners in order."""
    if not isinstance(numbers, list) or len(numbers) != 4:
        return None
    if not all(isinstance(one, int | float) and abs(one) < 1e9 for one in numbers):
        return None
    left, top, right, bottom = (int(one) for one in numbers)
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _unescaped(text: str) -> str:
    """The meaning of what stands between quotes: escapes that are cut off or wrong are mended."""
    text = _CUT.sub(r"\1", text)
    mended = _ESCAPE.sub(lambda match: match[0] if len(match[0]) > 1 else "\\" + match[0], text)
    found = json.loads(f'"{mended}"', strict=False)
    return found.encode("utf-8", "ignore").decode("utf-8")  # half a surrogate pair is no text
