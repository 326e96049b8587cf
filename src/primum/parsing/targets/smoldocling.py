"""SmolDocling and granite-docling-258M: a page as DocTags by the SmolVLM family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from primum.parsing.regions import Kind
from primum.parsing.targets.adapter import Adapter
from primum.parsing.targets.doctags import DocTags


class SmolDocling(Adapter):
    """SmolDocling, a quarter of a billion weights (Idefics3 and SmolVLM in transformers)."""

    name = "smoldocling"
    hub = "ds4sd/SmolDocling-256M-preview"
    model_types = ("idefics3", "smolvlm")
    surface = DocTags()
    keeps_tags = True
    page = "Convert this page to docling."
    regions: ClassVar[Mapping[Kind, str]] = {
        "table": "Convert table to OTSL.",
        "formula": "Convert formula to LaTeX.",
        "code": "Convert code to text.",
    }
