"""Pages to read: pictures, PDFs, folders of both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from primum.errors import UserError
from primum.files import sha256
from primum.parsing.drafters.text_layer import TextLayer
from primum.parsing.regions import Region
from primum.pictures import opened, shown

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
SEVERAL = (".tif", ".tiff")  # pictures that may hold several pages
DPI = 144
LARGEST = 12_000  # pixels of a side; a larger page would take the memory of the machine


@dataclass(frozen=True)
class PageInput:
    """One page of the input.

    Attributes:
        file: A picture or a PDF.
        number: The page in a PDF or a TIFF of several, from 0; None of a picture.
        name: Where its output goes, relative to the output folder and without a suffix.
    """

    file: Path
    number: int | None
    name: str

    @property
    def key(self) -> str:
        """Identity of the page's content."""
        whole = f"{content(self.file)} {self.number}"
        return hashlib.sha256(whole.encode()).hexdigest()

    def image(self, dpi: int = DPI) -> Image.Image:
        """The page as an RGB picture.

        Raises:
            UserError: It cannot be read, or is too large.
        """
        if is_pdf(self.file):
            pdf, number = held(self.file), self.number or 0
            check_size(self.file, pdf.size(number, dpi))
            return pdf.image(number, dpi)
        with opened(self.file, frame=self.number or 0) as picture:
            check_size(self.file, picture.size)
            return shown(picture)

    def text_layer(self, dpi: int = DPI) -> list[Region]:
        """What a PDF says of itself; nothing for a picture."""
        if not is_pdf(self.file):
            return []
        return held(self.file).regions(self.number or 0, dpi)


def is_pdf(file: Path) -> bool:
    """Whether a file calls itself a PDF."""
    return file.suffix.lower() == ".pdf"


def check_size(file: Path, size: tuple[int, int]) -> None:
    """Refuse a page without area, or one that would take the memory of the machine.

    Raises:
        UserError: Its sides are wrong.
    """
    width, height = size
    if min(size) < 1:
        raise UserError(f"A page of {width} x {height} pixels has nothing to read", file=file)
    if max(size) > LARGEST:
        raise UserError(
            f"A page of {width} x {height} pixels is too large",
            file=file,
            remedy=f"make it smaller than {LARGEST} pixels a side; --dpi does for PDFs",
        )


@lru_cache(maxsize=2)
def content(file: Path) -> str:
    """SHA-256 of a file; of a long PDF it is asked for once a page."""
    return sha256(file)


_open: dict[Path, TextLayer] = {}


def held(file: Path) -> TextLayer:
    """A PDF, held open until another one is asked for."""
    if file not in _open:
        for other in list(_open):
            _open.pop(other).close()
        _open[file] = TextLayer(file)
    return _open[file]


def close_pdfs() -> None:
    """Let go of the PDF that is held open."""
    while _open:
        _open.popitem()[1].close()


def find_pages(given: str | Path, chosen: range | None = None) -> Iterator[PageInput]:
    """The pages of a picture, a PDF, or a folder of both, in the order of their names.

    A PDF of a folder that cannot be opened comes as one page whose reading fails, so that it is
    reported and stops nothing.

    Args:
        given: A file or folder.
        chosen: Pages of PDFs and TIFFs with several, from 0; None takes all.

    Raises:
        UserError: There is nothing to read.
    """
    path = Path(given).expanduser()
    if not path.exists():
        raise UserError("There is no such file or folder", file=path)
    files = [path]
    if path.is_dir():
        files = sorted(
            file for file in path.rglob("*") if file.suffix.lower() in (*PICTURES, ".pdf")
        )
    if not files:
        raise UserError("There are no pictures or PDFs here", file=path)
    for file in files:
        name = (file.relative_to(path) if path.is_dir() else Path(file.name)).as_posix()
        if file.suffix.lower() not in (*PICTURES, ".pdf"):
            raise UserError(
                f"{file.suffix or 'A file without a suffix'} is neither a picture nor a PDF",
                file=file,
            )
        try:
            count = pages_in(file)
        except UserError:
            if not path.is_dir():
                raise
            yield PageInput(file, 0, f"{name}/0001")
            continue
        if count is None:
            yield PageInput(file, None, name)
            continue
        for number in range(count) if chosen is None else chosen:
            if number < count:
                yield PageInput(file, number, f"{name}/{number + 1:04d}")


def pages_in(file: Path) -> int | None:
    """Pages of a PDF or of a TIFF with several; None of a picture.

    Raises:
        UserError: A PDF that cannot be opened.
    """
    if is_pdf(file):
        return len(held(file))
    if file.suffix.lower() in SEVERAL:
        try:
            with opened(file) as picture:
                count = getattr(picture, "n_frames", 1)
        except UserError:
            return None  # whoever reads it says what is wrong
        return count if count > 1 else None
    return None


def page_range(text: str) -> range:
    """Pages as people count them, from 1.

    >>> page_range("3-20"), page_range("7")
    (range(2, 20), range(6, 7))
    """
    first, _, last = text.partition("-")
    found = range(int(first) - 1, int(last or first))
    if found.start < 0 or not found:
        raise ValueError(f"{text} is no range of pages")
    return found


def is_blank(image: Any) -> bool:
    """Whether nothing is printed on a page: a model would invent something."""
    low, high = image.convert("L").getextrema()
    return high - low < 16
