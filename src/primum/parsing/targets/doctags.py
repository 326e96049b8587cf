"""DocTags: a page as tagged elements with their places (Nassar et al., arXiv 2503.11576)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from primum.parsing.regions import FURNITURE, Box, Kind, Region
from primum.parsing.surface import Surface
from primum.parsing.targets import otsl

GRID = 500  # places are told on a grid of this size, whatever the page's
_TAGS: dict[Kind, str] = {
    "text": "text", "title": "section_header_level_1", "list": "list_item", "table": "otsl",
    "formula": "formula", "figure": "picture", "caption": "caption", "footnote": "footnote",
    "code": "code", "header": "page_header", "footer": "page_footer",
    "page_number": "page_footer",
}  # fmt: skip
_KINDS: dict[str, Kind] = {
    **{tag: kind for kind, tag in reversed(_TAGS.items())},
    "title": "title", "paragraph": "text", "chart": "figure", "reference": "text",
    "page_footer": "footer",
    **{f"section_header_level_{level}": "title" for level in range(1, 7)},
}  # fmt: skip
TAGS = tuple(_KINDS)
_ELEMENT = re.compile(
    rf"<({'|'.join(sorted(_KINDS, key=len, reverse=True))})>(.*?)"
    r"(?:</\1>|(?=<(?:" + "|".join(sorted(_KINDS, key=len, reverse=True)) + r")>)|\Z)",
    re.S,
)
_PLACE = re.compile(r"<loc_(\d+)>")
_LANGUAGE = re.compile(r"^<_([^_>]+)_>")


@dataclass(frozen=True)
class DocTags(Surface):
    """Elements with a tag, four places and their text.

    Args:
        size: Width and height of the page in pixels.
    """

    between: str = "\n"
    size: tuple[int, int] = (GRID, GRID)

    def on(self, size: tuple[int, int]) -> DocTags:
        """With places on a page of so many pixels."""
        return replace(self, size=size)

    def write(self, region: Region) -> str:
        """One element."""
        tag = _TAGS[region.kind]
        edges = zip(region.box, self.size * 2, strict=True)
        places = "".join(
            f"<loc_{min(GRID, max(0, round(GRID * edge / of)))}>" for edge, of in edges
        )
        text = region.text.strip()
        if region.kind == "table":
            text = otsl.written(region.cells, head=True) if region.cells else text
        if region.kind == "list":
            text = text.lstrip("-*• ")
        return f"<{tag}>{places}{text}</{tag}>"

    def pieces(self, regions: Sequence[Region]) -> list[str]:
        """Elements, the page's tag around them."""
        written = [self.write(region) for region in regions]
        if written:
            written[0] = "<doctag>" + written[0]
            written[-1] += "\n</doctag>"
        return written

    def rewritten(self, region: Region, text: str) -> str:
        """What was written of a crop, at the region's own place."""
        inner = self.found(text)
        words = "\n".join(one.text for one in inner) if inner else text
        return self.write(replace(region, text=words, cells=()))

    def found(self, text: str) -> list[Region]:
        """Elements as regions in page pixels; the last may have been cut off."""
        regions = []
        width, height = self.size
        for match in _ELEMENT.finditer(text):
            kind, inner = _KINDS[match[1]], match[2]
            places = [int(place) / GRID for place in _PLACE.findall(inner)[:4]]
            left, top, right, bottom = places if len(places) == 4 else (0.0, 0.0, 0.0, 0.0)
            box = Box(left * width, top * height, right * width, bottom * height)
            if kind != "figure":
                inner = inner.split("<caption>")[0] if kind == "table" else inner
            else:
                inner = re.sub(r".*<caption>(.*?)(</caption>|\Z).*|.*", r"\1", inner, flags=re.S)
            regions.append(Region(box, kind, _PLACE.sub("", inner).strip()))
        return regions

    def markdown(self, text: str, kind: Kind | None = None) -> str:
        """Elements as Markdown, tables as HTML."""
        regions = self.found(text)
        if not regions:
            return otsl.html(_PLACE.sub("", text)) if kind == "table" else text
        parts = [_markdown(one) for one in regions if one.kind not in FURNITURE or self.furniture]
        return "\n\n".join(filter(None, parts))


def _markdown(region: Region) -> str:
    text = region.text
    if not text:
        return ""
    if region.kind == "title":
        return f"# {text}"
    if region.kind == "list":
        return f"- {text}"
    if region.kind == "formula":
        return f"$$\n{text}\n$$"
    if region.kind == "code":
        language = _LANGUAGE.match(text)
        body = _LANGUAGE.sub("", text)
        return f"```{language[1].lower() if language else ''}\n{body}\n```"
    return otsl.html(text) if region.kind == "table" else text
