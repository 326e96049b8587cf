"""Granite Docling: a page as DocTags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from primum.parsing.regions import Kind
from primum.parsing.targets.adapter import Adapter
from primum.parsing.targets.doctags import DocTags


class GraniteDocling(Adapter):
    """Granite for Docling of half a billion weights; the one of 258 M is a `SmolDocling`."""

    name = "granite_docling"
    hub = "ibm-granite/granite-for-docling-500m"
    model_types = ("granite_docling",)
    surface = DocTags()
    keeps_tags = True
    page = "Convert this page to docling."
    regions: ClassVar[Mapping[Kind, str]] = {
        "table": "Convert table to OTSL.",
        "formula": "Convert formula to LaTeX.",
        "code": "Convert code to text.",
    }
