"""Qwen2.5-VL and Qwen3-VL: general models, asked for a page's Markdown."""

from __future__ import annotations

from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import Adapter

MARKDOWN = (
    "Convert this document page to Markdown in reading order. Write tables as HTML and display"
    " formulas as LaTeX between $$. Leave out page headers, page footers and page numbers. Write"
    " nothing but the text of the page."
)


class Qwen25Vl(Adapter):
    """Qwen2.5-VL; its own document format is HTML with boxes, so Markdown is asked for in words."""

    name = "qwen2_5_vl"
    hub = "Qwen/Qwen2.5-VL-7B-Instruct"
    model_types = ("qwen2_5_vl",)
    surface = Surface(formula=("$$\n", "\n$$"))
    page = MARKDOWN


class Qwen3Vl(Adapter):
    """Qwen3-VL, whose own prompt for a page's Markdown is two words long."""

    name = "qwen3_vl"
    hub = "Qwen/Qwen3-VL-2B-Instruct"
    model_types = ("qwen3_vl", "qwen3_vl_moe")
    surface = Surface(formula=("$$\n", "\n$$"))
    page = "qwenvl markdown"
