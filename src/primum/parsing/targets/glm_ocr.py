"""GLM-OCR: the same three prompts for a page and for its regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from primum.parsing.decoding.target import Unit
from primum.parsing.regions import Kind
from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import Adapter


@dataclass(frozen=True)
class GlmSurface(Surface):
    """Markdown, tables in HTML; of crops, headings and formulas without marks."""

    def markdown(self, text: str, kind: Kind | None = None) -> str:
        """Crops of titles and formulas get their marks."""
        text = text.strip()
        if kind == "formula" and text and "$" not in text:
            return f"$$\n{text}\n$$"
        marked = kind == "title" and text and not text.startswith("#")
        return f"# {text}" if marked else text


class GlmOcr(Adapter):
    """GLM-OCR, 0.9 billion weights; its extra layer for several tokens at once is not used."""

    name = "glm_ocr"
    hub = "zai-org/GLM-OCR"
    model_types = ("glm_ocr",)
    unit: Unit = "both"
    surface = GlmSurface()
    page = "Text Recognition:"
    regions: ClassVar[Mapping[Kind, str]] = {
        "table": "Table Recognition:",
        "formula": "Formula Recognition:",
    }
