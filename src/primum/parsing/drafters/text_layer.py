"""A PDF's own text: free, exact, and the best draft there is (pypdfium2)."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from primum.errors import UserError
from primum.extras import require
from primum.parsing.drafters.grouping import regions_from
from primum.parsing.regions import Box, Kind, Line, Region, around

TITLE_SIZE = 1.15  # a heading's letters are at least this much larger than the page's median

BROKEN = "\x02"  # PDFium's mark for a word that goes on in the next line


class _Letter(NamedTuple):
    character: str
    box: Box
    size: float


class TextLayer:
    """The text that a PDF carries.

    Args:
        path: A PDF.

    Raises:
        UserError: The file is encrypted or is no PDF.
    """

    name = "pdf text"

    def __init__(self, path: str | Path) -> None:
        pdfium = require("pypdfium2", "parsing")
        self.path = Path(path)
        try:
            self._document = pdfium.PdfDocument(self.path)
        except FileNotFoundError:
            raise UserError("There is no such PDF", file=self.path) from None
        except pdfium.PdfiumError as error:
            locked = "assword" in str(error)
            raise UserError(
                "The PDF is encrypted" if locked else "The PDF cannot be read",
                file=self.path,
                remedy="remove its password first" if locked else "open and save it again",
            ) from None

    def __len__(self) -> int:
        """Pages."""
        return len(self._document)

    def close(self) -> None:
        """Let go of the file."""
        self._document.close()

    def size(self, page: int, dpi: float = 200.0) -> tuple[int, int]:
        """(width, height) in pixels of `image(page, dpi)`."""
        width, height = self._document[page].get_size()
        return round(width * dpi / 72), round(height * dpi / 72)

    def image(self, page: int, dpi: float = 200.0) -> Any:
        """A page (from 0) as a PIL image."""
        return self._document[page].render(scale=dpi / 72).to_pil().convert("RGB")

    def regions(
        self, page: int, dpi: float = 200.0, layout: Sequence[tuple[Box, Kind]] = ()
    ) -> list[Region]:
        """Regions of a page (from 0) in reading order, boxes in pixels of `image(page, dpi)`."""
        lines, titles = self._lines(page, dpi / 72)
        boxes = [*layout, *((box, "title") for box in titles)]
        return regions_from(lines, boxes)

    def lines(self, page: int, dpi: float = 200.0) -> list[Line]:
        """Lines of a page, boxes in pixels."""
        return self._lines(page, dpi / 72)[0]

    def _lines(self, number: int, scale: float) -> tuple[list[Line], list[Box]]:
        page = self._document[number]
        rows: list[list[_Letter]] = [[]]
        for letter in _letters(page, scale):
            if letter.character in "\r\n":
                rows.append([])
            elif letter.character == BROKEN:
                rows[-1].append(letter._replace(character="-"))
                rows.append([])
            else:
                rows[-1].append(letter)
        page.close()
        rows = [row for row in rows if any(one.character.strip() for one in row)]
        if not rows:
            return [], []
        usual = median(one.size for row in rows for one in row)
        lines, titles = [], []
        for row in rows:
            inked = [one for one in row if one.character.strip() and one.box.area > 0]
            if not inked:
                continue
            box = around([one.box for one in inked])
            lines.append(Line("".join(one.character for one in row).strip(), box))
            if median(one.size for one in inked) > TITLE_SIZE * usual:
                titles.append(box)
        return lines, _stacked(titles)


def _letters(page: Any, scale: float) -> list[_Letter]:
    raw = require("pypdfium2.raw", "parsing")
    text = page.get_textpage()
    height = page.get_height()
    result = []
    for index in range(text.count_chars()):
        character = chr(raw.FPDFText_GetUnicode(text, index))
        left, bottom, right, top = text.get_charbox(index, loose=False)
        box = Box(left * scale, (height - top) * scale, right * scale, (height - bottom) * scale)
        result.append(_Letter(character, box, raw.FPDFText_GetFontSize(text, index)))
    text.close()
    return result


def _stacked(boxes: Sequence[Box]) -> list[Box]:
    """Title lines that stand right above each other, as one."""
    result: list[Box] = []
    for box in boxes:
        if result and 0 <= box.top - result[-1].bottom < 0.6 * box.height:
            result[-1] = around([result[-1], box])
        else:
            result.append(box)
    return result
