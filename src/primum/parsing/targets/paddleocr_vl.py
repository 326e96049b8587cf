"""PaddleOCR-VL: reads one region at a time; a layout model cuts the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from primum.parsing.decoding.target import Unit
from primum.parsing.regions import Kind
from primum.parsing.surface import Surface
from primum.parsing.targets import otsl
from primum.parsing.targets.adapter import Adapter

_INLINE = re.compile(r"\\\(\s*(.*?)\s*\\\)", re.S)
_DISPLAY = re.compile(r"\\\[\s*(.*?)\s*\\\]", re.S)


@dataclass(frozen=True)
class PaddleSurface(Surface):
    r"""Tables in OTSL, formulas between `\[` and `\]`, headings without marks."""

    heading: str = ""
    formula: tuple[str, str] = ("\\[ ", " \\]")

    def table(self, rows: Sequence[Sequence[str]]) -> str:
        """Rows of cells in OTSL."""
        return otsl.written(rows)

    def markdown(self, text: str, kind: Kind | None = None) -> str:
        """A crop's text with formulas between dollars; its table as HTML, its title marked."""
        if kind == "table":
            return otsl.html(text)
        text = _DISPLAY.sub(r"$$\n\1\n$$", _INLINE.sub(r"$\1$", text)).strip()
        if kind == "formula" and text and "$" not in text:
            text = f"$$\n{text}\n$$"
        return f"# {text}" if kind == "title" and text else text


class PaddleOcrVl(Adapter):
    """PaddleOCR-VL, 0.9 billion weights."""

    name = "paddleocr_vl"
    hub = "PaddlePaddle/PaddleOCR-VL"
    model_types = ("paddleocr_vl",)
    unit: Unit = "region"
    surface = PaddleSurface()
    keeps_tags = True
    page = "OCR:"
    regions: ClassVar[Mapping[Kind, str]] = {
        "table": "Table Recognition:",
        "formula": "Formula Recognition:",
    }
