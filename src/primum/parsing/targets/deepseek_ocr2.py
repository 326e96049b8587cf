"""DeepSeek-OCR-2: Markdown, on request with the kind and place of each region before it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from primum.parsing.regions import Box, Kind, Region
from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import Adapter

GRID = 999  # places are told on a grid of this size
_HEAD = re.compile(r"<\|ref\|>(.*?)<\|/ref\|><\|det\|>\[\[([\d,\s]*)\]\]<\|/det\|>\n?", re.S)
_NAMES: dict[Kind, str] = {
    "text": "text", "title": "sub_title", "list": "text", "table": "table", "formula": "equation",
    "figure": "image", "caption": "image_caption", "footnote": "text", "code": "text",
    "header": "header", "footer": "footer", "page_number": "page_number",
}  # fmt: skip
_KINDS: dict[str, Kind] = {
    **{name: kind for kind, name in reversed(_NAMES.items())},
    "title": "title", "table_caption": "caption", "text": "text",
}  # fmt: skip


@dataclass(frozen=True)
class GroundedSurface(Surface):
    r"""Each region behind its kind and place; formulas between `\[` and `\]`.

    Args:
        size: Width and height of the page in pixels.
    """

    heading: str = "## "
    formula: tuple[str, str] = ("\\[ ", " \\]")
    size: tuple[int, int] = (GRID, GRID)

    def on(self, size: tuple[int, int]) -> GroundedSurface:
        """With places on a page of so many pixels."""
        return replace(self, size=size)

    def write(self, region: Region) -> str:
        """One region with its head."""
        edges = zip(region.box, self.size * 2, strict=True)
        places = ", ".join(str(min(GRID, max(0, round(GRID * edge / of)))) for edge, of in edges)
        head = f"<|ref|>{_NAMES[region.kind]}<|/ref|><|det|>[[{places}]]<|/det|>\n"
        return head + super().write(region)

    def rewritten(self, region: Region, text: str) -> str:
        """What was written of a crop, behind the region's own head."""
        bare = replace(region, text="", cells=())
        return self.write(bare) + _HEAD.sub("", text)

    def markdown(self, text: str, kind: Kind | None = None) -> str:
        """The text without heads."""
        return _HEAD.sub("", text).strip()

    def found(self, text: str) -> list[Region]:
        """Regions by their heads, in page pixels."""
        heads = list(_HEAD.finditer(text))
        regions = []
        for head, following in zip(heads, [*heads[1:], None], strict=True):
            edges = [float(edge) / GRID for edge in head[2].split(",") if edge.strip()]
            left, top, right, bottom = edges if len(edges) == 4 else (0.0, 0.0, 0.0, 0.0)
            width, height = self.size
            words = text[head.end() : None if following is None else following.start()]
            box = Box(left * width, top * height, right * width, bottom * height)
            regions.append(Region(box, _KINDS.get(head[1], "text"), words.strip()))
        return regions


class DeepSeekOcr2(Adapter):
    """DeepSeek-OCR-2, three billion weights, half a billion of them active.

    Args:
        grounded: Whether places are asked for, as for the published scores.
        prompt: Other words.
    """

    name = "deepseek_ocr2"
    hub = "deepseek-community/DeepSeek-OCR-2"
    model_types = ("deepseek_ocr2",)
    keeps_tags = True

    def __init__(self, grounded: bool = True, prompt: str = "") -> None:
        super().__init__(prompt)
        self.grounded = grounded
        self.surface = GroundedSurface() if grounded else Surface(formula=("\\[ ", " \\]"))

    def page_prompt(self, size: tuple[int, int]) -> str:
        """With or without places."""
        asked = "<|grounding|>Convert the document to markdown." if self.grounded else "Free OCR."
        return self.prompt or asked

    def region_prompt(self, kind: Kind, size: tuple[int, int]) -> str:
        """Crops are read without places."""
        return self.prompt or "Free OCR."

    def inputs(self, processor: Any, image: Any, prompt: str) -> dict[str, Any]:
        """A picture, a line's end and the prompt; nothing around them."""
        text = f"{processor.image_token}\n{prompt}"
        return dict(processor(images=[image.convert("RGB")], text=[text], return_tensors="pt"))
