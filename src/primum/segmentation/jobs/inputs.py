"""Pictures to segment: one file, or all below a folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from primum.errors import UserError
from primum.files import sha256
from primum.segmentation.data.images import ENDINGS


@dataclass(frozen=True)
class Picture:
    """One picture of the input.

    Attributes:
        file: Where it lies.
        name: Relative to the input folder; its output files are called after it.
    """

    file: Path
    name: str

    @property
    def key(self) -> str:
        """Identity of name and content."""
        return f"{self.name} {sha256(self.file)}"


def find_pictures(given: str | Path, besides: Collection[Path] = ()) -> list[Picture]:
    """A picture, or all below a folder in the order of their names; hidden files are left out.

    Args:
        besides: Folders to leave out, such as the output's.

    Raises:
        UserError: There is none.
    """
    path = Path(given).expanduser()
    if not path.exists():
        raise UserError("There is no such file or folder", file=path)
    if not path.is_dir():
        return [Picture(path, path.name)]  # whatever its ending: reading it will tell
    left_out = {folder.resolve() for folder in besides}
    found = [
        Picture(file, file.relative_to(path).as_posix())
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in ENDINGS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and not left_out & set(file.resolve().parents)
    ]
    if not found:
        raise UserError(f"There are no pictures here ({', '.join(ENDINGS)})", file=path)
    return found
