"""dots.ocr (also dots.ocr.base and dots.mocr): a page as a JSON list of cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from primum.errors import UserError
from primum.parsing.regions import FURNITURE, Box, Kind, Region
from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import Adapter
from primum.parsing.targets.dots.output import read_cells, repaired, without_loops
from primum.parsing.targets.dots.processor import framed
from primum.parsing.targets.dots.prompts import CELL_MODES, PROMPTS, Mode, prompt

SMALLEST, LARGEST, SIDE = 3136, 11_289_600, 28  # pixels of a page; of a visual token's side

_WORDS: dict[Kind, str] = {
    "text": "Text", "title": "Section-header", "list": "List-item", "table": "Table",
    "formula": "Formula", "figure": "Picture", "caption": "Caption", "footnote": "Footnote",
    "code": "Text", "header": "Page-header", "footer": "Page-footer",
    "page_number": "Page-footer",
}  # fmt: skip
_KINDS: dict[str, Kind] = {
    **{word: kind for kind, word in reversed(_WORDS.items())},
    "Text": "text", "Title": "title", "Page-footer": "footer",
}  # fmt: skip


def input_size(width: int, height: int) -> tuple[int, int]:
    """Width and height to which a picture is brought: multiples of 28, neither tiny nor huge.

    Raises:
        UserError: One side is more than 200 times the other.

    >>> input_size(1654, 2339)  # A4 at 200 dpi: 59 x 84 visual tokens
    (1652, 2352)
    """
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    try:
        rows, columns = smart_resize(height, width, SIDE, SMALLEST, LARGEST)
    except ValueError:
        raise UserError(
            f"dots.ocr cannot read a picture of {width} x {height} pixels: it is too narrow",
            remedy="cut it so that no side is more than 200 times the other",
        ) from None
    return columns, rows


@dataclass(frozen=True)
class DotsSurface(Surface):
    """Cells of JSON.

    Args:
        scale: Input pixels per page pixel, across and down.
        boxes_only: Whether cells have no text.
    """

    between: str = ", "
    scale: tuple[float, float] = (1.0, 1.0)
    boxes_only: bool = False

    def on(self, size: tuple[int, int]) -> DotsSurface:
        """With boxes in the pixels of the model's input."""
        width, height = input_size(*size)
        return replace(self, scale=(width / size[0], height / size[1]))

    def write(self, region: Region) -> str:
        """One cell."""
        across, down = self.scale
        box = region.box
        found: dict[str, Any] = {
            "bbox": [
                round(box.left * across), round(box.top * down), round(box.right * across),
                round(box.bottom * down),
            ],
            "category": _WORDS[region.kind],
        }  # fmt: skip
        if region.kind != "figure" and not self.boxes_only:
            found["text"] = self._text(region)
        return json.dumps(found, ensure_ascii=False)

    def rewritten(self, region: Region, text: str) -> str:
        """The text of a crop in the cell of its region."""
        if region.kind == "formula":
            text = text.removeprefix("$$").removesuffix("$$").strip()
        return self.write(replace(region, text=text.removeprefix("#").lstrip(), cells=()))

    def pieces(self, regions: Sequence[Region]) -> list[str]:
        """Cells, the list's brackets around them."""
        written = [self.write(region) for region in regions]
        if written:
            written[0] = "[" + written[0]
            written[-1] += "]"
        return written

    def markdown(self, text: str, kind: Kind | None = None) -> str:
        """Texts of the cells; of a crop, which is read as plain text, the text itself.

        Without texts there is no Markdown: boxes and categories stay JSON, which parses.
        """
        if kind is not None:
            return text
        if self.boxes_only:
            return repaired(text)
        regions = self.found(text)
        if not regions:
            return text
        kept = [one for one in regions if one.kind not in FURNITURE or self.furniture]
        return "\n\n".join(one.text.strip() for one in kept if one.text.strip())

    def found(self, text: str) -> list[Region]:
        """Cells as regions in page pixels; those without a whole box are left where they began."""
        across, down = self.scale
        regions = []
        for cell in without_loops(read_cells(text)):
            left, top, right, bottom = cell.box or (0, 0, 0, 0)
            box = Box(left / across, top / down, right / across, bottom / down)
            kind = _KINDS.get(cell.category, "text")
            words = cell.text or ""
            if kind == "formula" and words and "$" not in words:
                words = f"$$\n{words.strip()}\n$$"
            regions.append(Region(box, kind, words))
        return regions

    def _text(self, region: Region) -> str:
        if region.kind == "table" and region.cells:
            return self.table(region.cells)
        text = region.text.strip()
        if region.kind == "title" and text:
            return "## " + text
        if region.kind == "formula" and text:
            return f"$$\n{text}\n$$"
        return text


class DotsOcr(Adapter):
    """dots.ocr.

    Args:
        mode: Which of the release's prompts is asked of a page.
        box: For `grounding`: left, top, right, bottom in page pixels.
        prompt: Other words than the release's.
    """

    name = "dots_ocr"
    hub = "dots-studio/dots.ocr"
    model_types = ("dots_ocr",)

    def __init__(
        self, mode: Mode = "layout_all", box: Sequence[float] | None = None, prompt: str = ""
    ) -> None:
        super().__init__(prompt)
        if mode not in PROMPTS:
            raise UserError(
                f"dots.ocr has no prompt `{mode}`", remedy=f"choose one of {', '.join(PROMPTS)}"
            )
        if (mode == "grounding") != (box is not None) or (box is not None and len(box) != 4):
            raise UserError(
                "The prompt `grounding` needs a box of four numbers, the others none",
                remedy="target.mode=grounding target.box=[left,top,right,bottom]",
            )
        self.mode, self.box = mode, box
        self.surface = Surface(formula=("$$\n", "\n$$"))
        if mode in CELL_MODES:
            self.surface = DotsSurface(boxes_only=mode == "layout_only")

    def page_prompt(self, size: tuple[int, int]) -> str:
        """The release's words."""
        if self.prompt:
            return self.prompt
        inside = input_size(*size)
        box = None
        if self.box is not None:
            scale = (inside[0] / size[0], inside[1] / size[1]) * 2
            box = [int(edge * by) for edge, by in zip(self.box, scale, strict=True)]
        return prompt(self.mode, inside, box)

    def region_prompt(self, kind: Kind, size: tuple[int, int]) -> str:
        """Crops are read as plain text."""
        return PROMPTS["ocr"]

    def inputs(self, processor: Any, image: Any, prompt: str) -> dict[str, Any]:
        """Resized as the release does it, by Pillow, and framed without a blank more."""
        resized = image.convert("RGB").resize(input_size(*image.size), Image.Resampling.BICUBIC)
        return dict(processor(images=[resized], text=[framed(prompt)], return_tensors="pt"))
