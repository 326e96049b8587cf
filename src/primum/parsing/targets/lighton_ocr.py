"""LightOnOCR: a picture without a word gives the page's Markdown."""

from __future__ import annotations

from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import Adapter


class LightOnOcr(Adapter):
    """LightOnOCR, a billion weights; docvlm-tiny is its little sister."""

    name = "lighton_ocr"
    hub = "lightonai/LightOnOCR-1B-1025"
    model_types = ("lighton_ocr",)
    surface = Surface(formula=("$$", "$$"))
