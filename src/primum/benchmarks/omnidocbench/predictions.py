"""Markdown that somebody's parser already wrote, one file a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from primum.benchmarks.cases import Case
from primum.benchmarks.predictions import Predictions
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError


def names_for(image: str) -> list[str]:
    """File names under which parsers leave the Markdown of a page's image, likeliest first.

    >>> names_for("book.pdf_3.jpg")
    ['book.pdf_3.md', 'book_3.mmd', 'book_3.md', 'book.pdf_3.jpg.md']
    """
    stem = Path(image).stem
    bare = stem.replace(".pdf", "")
    return [f"{stem}.md", f"{bare}.mmd", f"{bare}.md", f"{image}.md"]


class MarkdownFolder:
    """Answers from a folder of Markdown files.

    Args:
        folder: Holds `<image name>.md`, or one of the other names in use.
        missing: What becomes of a page without a file: `error`, or `empty` for an empty answer.
    """

    def __init__(self, folder: Path, missing: str = "error") -> None:
        self.folder, self.missing = folder, missing

    def find(self, image: str) -> Path | None:
        """The file of a page, or None."""
        files = (self.folder / name for name in names_for(image))
        return next((file for file in files if file.is_file()), None)

    def check(self, cases: Sequence[Case]) -> None:
        """Refuse a folder that leaves pages out: skipping them would raise the scores.

        Raises:
            UserError: It lists them.
        """
        lacking = [case.id for case in cases if self.find(case.id) is None]
        if len(lacking) == len(cases) or (lacking and self.missing == "error"):
            shown = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
            raise UserError(
                f"{len(lacking)} of {len(cases)} pages have no Markdown here: {shown}",
                file=self.folder,
                remedy="add <image name>.md for each; benchmark.missing=empty scores them as empty",
            )

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """Read them.

        Raises:
            UserError: A file is not UTF-8.
        """
        return [self.read(case) for case in cases]

    def read(self, case: Case) -> Answer:
        """One page's Markdown."""
        file = self.find(case.id)
        if file is None:
            return Answer("", "missing")
        try:
            return Answer(file.read_text("utf-8"), "given")
        except UnicodeDecodeError as error:
            raise UserError(f"This file is not UTF-8: {error}", file=file) from None


def read_markdown(paths: Sequence[Path], missing: str = "error") -> MarkdownFolder | Predictions:
    """A folder of Markdown, or tables of answers as other benchmarks take them."""
    if len(paths) == 1 and paths[0].is_dir():
        return MarkdownFolder(paths[0], missing)
    return Predictions.read(paths)
