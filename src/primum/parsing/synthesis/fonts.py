"""Typefaces that free packages bring along; none lies in this repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from primum.errors import UserError

#: family -> (package or folder, regular, bold, licence)
KNOWN = {
    "dejavu-sans": ("matplotlib", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "Bitstream Vera"),
    "dejavu-serif": ("matplotlib", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "Bitstream Vera"),
    "dejavu-mono": (
        "matplotlib", "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "Bitstream Vera",
    ),
    "stix": ("matplotlib", "STIXGeneral.ttf", "STIXGeneralBol.ttf", "OFL-1.1"),
    "vera": ("reportlab", "Vera.ttf", "VeraBd.ttf", "Bitstream Vera"),
    "liberation-sans": ("/", "LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf", "OFL-1.1"),
    "liberation-serif": (
        "/", "LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf", "OFL-1.1",
    ),
    "liberation-mono": ("/", "LiberationMono-Regular.ttf", "LiberationMono-Bold.ttf", "OFL-1.1"),
}  # fmt: skip
FOLDERS = {"matplotlib": "mpl-data/fonts/ttf", "reportlab": "fonts"}
SYSTEM = Path("/usr/share/fonts/truetype/liberation")  # Debian's fonts-liberation


@dataclass(frozen=True)
class Family:
    """A typeface with its two files."""

    name: str
    regular: Path
    bold: Path
    licence: str

    def face(self, bold: bool = False) -> Path:
        """The file of a weight."""
        return self.bold if bold else self.regular


def family(name: str) -> Family:
    """A typeface by name.

    Raises:
        UserError: It is unknown, or the package that brings it is not installed.
    """
    if name not in KNOWN:
        raise UserError(f"There is no typeface {name!r}", remedy=f"use {', '.join(KNOWN)}")
    home, regular, bold, licence = KNOWN[name]
    if home == "/":
        folder, remedy = SYSTEM, "apt-get install fonts-liberation"
    else:
        spec = find_spec(home)
        origin = Path(spec.origin).parent if spec and spec.origin else Path(home)
        folder, remedy = origin / FOLDERS[home], 'pip install "primum[parsing]"'
    found = Family(name, folder / regular, folder / bold, licence)
    if not (found.regular.is_file() and found.bold.is_file()):
        raise UserError(f"The typeface {name!r} is not here", file=found.regular, remedy=remedy)
    return found


def families(names: Sequence[str]) -> list[Family]:
    """Several typefaces."""
    return [family(name) for name in names]


@cache
def sized(face: Path, size: int) -> Any:
    """A Pillow font of `size` pixels; always the basic layout, whatever else is installed."""
    from PIL import ImageFont

    return ImageFont.truetype(str(face), size, layout_engine=ImageFont.Layout.BASIC)


def width_of(text: str, face: Path, size: int) -> float:
    """How far a text goes, in pixels."""
    return float(sized(face, size).getlength(text))
