"""Regions that other programs have saved: drafts that cost nothing to run."""

import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.parsing.regions import Box, Kind, Region
from primum.parsing.targets.dots.output import read_cells

_TEXT: dict[str, Kind] = {
    # OmniDocBench
    "text_block": "text", "equation_isolated": "formula", "figure_caption": "caption",
    "figure_footnote": "footnote", "table_caption": "caption", "table_footnote": "footnote",
    "page_footnote": "footnote", "code_txt": "code", "reference": "text", "page_number":
    "page_number", "equation_caption": "caption", "code_txt_caption": "caption",
    # PP-StructureV3
    "paragraph_title": "title", "doc_title": "title", "abstract": "text", "content": "text",
    "formula": "formula", "figure_title": "caption", "table_title": "caption", "chart": "figure",
    "image": "figure", "number": "page_number", "footnote": "footnote", "algorithm": "code",
    "header_image": "figure", "footer_image": "figure", "seal": "figure", "aside_text": "text",
    "display_formula": "formula", "inline_formula": "formula", "reference_content": "text",
    "vertical_text": "text", "vision_footnote": "footnote", "formula_number": "caption",
    "chart_title": "caption",
    # MinerU
    "interline_equation": "formula", "list": "list", "index": "text", "code": "code",
    # dots.ocr
    "Caption": "caption", "Footnote": "footnote", "Formula": "formula", "List-item": "list",
    "Page-footer": "footer", "Page-header": "header", "Picture": "figure",
    "Section-header": "title", "Table": "table", "Text": "text", "Title": "title",
    # the same word in several
    "text": "text", "title": "title", "table": "table", "figure": "figure", "header": "header",
    "footer": "footer", "caption": "caption",
}  # fmt: skip


def kind(name: str) -> Kind:
    """Another program's word for a kind; text where it is not known."""
    return _TEXT.get(name, "text")


def omnidocbench(page: Mapping[str, Any], boxes_only: bool = False) -> list[Region]:
    """A page of an OmniDocBench annotation, what has no place in the order last."""
    blocks = [b for b in page["layout_dets"] if not b.get("ignore")]
    blocks = [b for b in blocks if b["category_type"] not in ("abandon", "equation_caption")]
    blocks.sort(key=lambda b: (b.get("order") is None, b.get("order") or 0))
    result = []
    for block in blocks:
        text = "" if boxes_only else block.get("html") or block.get("latex") or block.get("text")
        result.append(_region(_outline(block["poly"]), block["category_type"], text or ""))
    return result


def pp_structure(result: Mapping[str, Any]) -> list[Region]:
    """The JSON of PP-StructureV3 and of PaddleOCR-VL's pipeline, what has no order last."""
    blocks = result.get("res", result)["parsing_res_list"]
    blocks = sorted(blocks, key=lambda b: (b.get("block_order") is None, b.get("block_order") or 0))
    return [
        _region(Box(*b["block_bbox"]), b["block_label"], b.get("block_content") or "")
        for b in blocks
    ]


def mineru(page: Mapping[str, Any], size: tuple[float, float] | None = None) -> list[Region]:
    """One entry of `pdf_info` in MinerU's middle.json.

    Args:
        size: Width and height of the page in pixels; MinerU's boxes are in points.
    """
    points = page.get("page_size") or size or (1, 1)
    across, down = (1.0, 1.0) if size is None else (size[0] / points[0], size[1] / points[1])
    result = []
    for block in _leaves(page.get("para_blocks", [])) + _leaves(page.get("discarded_blocks", [])):
        spans = [[s.get("html") or s.get("content") or "" for s in line.get("spans", [])]
                 for line in block.get("lines", [])]  # fmt: skip
        left, top, right, bottom = block["bbox"]
        box = Box(left * across, top * down, right * across, bottom * down)
        text = " ".join(" ".join(filter(None, line)) for line in spans).strip()
        result.append(_region(box, block["type"].removesuffix("_body"), text))
    return result


def _leaves(blocks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Tables and figures hold their body and captions as blocks of their own."""
    return [leaf for b in blocks for leaf in (_leaves(b["blocks"]) if b.get("blocks") else [b])]


def mineru_content(
    items: Sequence[Mapping[str, Any]], number: int, size: tuple[float, float] | None = None
) -> list[Region]:
    """One page of MinerU's content_list.json.

    Args:
        number: The page, from 0.
        size: Width and height of the page in pixels; MinerU's boxes are thousandths.
    """
    across, down = (one / 1000 for one in size) if size else (1.0, 1.0)
    result = []
    for item in items:
        if item.get("page_idx", 0) != number:
            continue
        left, top, right, bottom = item.get("bbox") or (0, 0, 0, 0)
        box = Box(left * across, top * down, right * across, bottom * down)
        name = {"equation": "formula"}.get(item["type"], item["type"])
        text = item.get("table_body") or item.get("code_body") or item.get("text") or ""
        text = text or "\n".join(f"- {one}" for one in item.get("list_items") or ())
        name = "title" if name == "text" and item.get("text_level") else name
        for caption in item.get("table_caption") or item.get("image_caption") or ():
            result.append(_region(box, "caption", caption))
        result.append(_region(box, name, text))
    return result


def dots(cells: Sequence[Mapping[str, Any]]) -> list[Region]:
    """dots.ocr's layout JSON; its own program has brought the boxes back to page pixels."""
    return [_region(Box(*c["bbox"]), c["category"], c.get("text") or "") for c in cells]


# Where these programs leave a page: STEM of the document, NUMBER of the page from 0.
PLACES = (
    "{stem}.json", "{stem}_res.json", "{stem}_{number}.json", "{stem}_{number}_res.json",
    "{stem}_page_{number}.json", "{stem}_middle.json", "{stem}_content_list.json",
)  # fmt: skip
FOLDERS = ("", "{stem}", "{stem}/auto", "{stem}/vlm", "{stem}/hybrid_auto")


def find(folder: str | Path, document: str | Path, number: int = 0) -> Path | None:
    """The file that holds a page's draft.

    Args:
        folder: Output folder of PP-StructureV3, PaddleOCR-VL, MinerU or dots.ocr.
        document: The picture or PDF that was read.
        number: The page, from 0.
    """
    stem = Path(document).stem
    for place in FOLDERS:
        for name in PLACES:
            file = Path(folder) / place.format(stem=stem) / name.format(stem=stem, number=number)
            if file.is_file():
                return file
    return None


def read(
    path: str | Path, number: int = 0, size: tuple[float, float] | None = None, picture: str = ""
) -> list[Region]:
    """Regions of one page from a file of a program that `remedy` below names.

    Args:
        number: The page in a file of several, from 0.
        size: Width and height of the page in pixels, for programs that do not write pixels.
        picture: File name of the page's picture, for OmniDocBench's annotations of many pages.

    Raises:
        UserError: The file is no JSON, of no known kind, or has no such page.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The draft cannot be read: {error}", file=path) from None
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        data = [cell.told() for cell in read_cells(text) if cell.box is not None]
        if not data:
            raise UserError(f"The draft cannot be read: {error}", file=path) from None
    try:
        found = _by_kind(data, number, size, picture)
    except IndexError:
        raise UserError(f"The draft has no page {number + 1}", file=path) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"The draft lacks {error}", file=path) from None
    if found is None:
        raise UserError(
            "The draft's format is not known",
            file=path,
            remedy="give the JSON of PP-StructureV3, PaddleOCR-VL, MinerU (middle.json or"
            " content_list.json), dots.ocr or OmniDocBench",
        )
    return found


def _by_kind(
    data: Any, number: int, size: tuple[float, float] | None, picture: str
) -> list[Region] | None:
    """The page, by what its file looks like."""
    if isinstance(data, dict):
        if "parsing_res_list" in data.get("res", data):
            return pp_structure(data)
        if "layout_dets" in data:
            return omnidocbench(data)
        return mineru(data["pdf_info"][number], size) if "pdf_info" in data else None
    if not isinstance(data, list) or not data or not isinstance(data[0], dict):
        return None
    if "layout_dets" in data[0]:
        named = [p for p in data if Path(p["page_info"]["image_path"]).name == picture]
        return omnidocbench(named[0] if named else data[number])
    if "page_idx" in data[0]:
        return mineru_content(data, number, size)
    return dots(data) if "bbox" in data[0] else None


def _outline(poly: Sequence[float]) -> Box:
    return Box(min(poly[0::2]), min(poly[1::2]), max(poly[0::2]), max(poly[1::2]))


def _region(box: Box, name: str, text: str) -> Region:
    found = kind(name)
    if found == "formula":
        text = re.sub(r"^\s*(\$\$|\\\[)|(\$\$|\\\])\s*$", "", text).strip()
    if found == "title":
        text = text.lstrip("#").strip()
    cells = _cells(text) if found == "table" and "<td" in text.lower() else ()
    return Region(box, found, text, cells)


class _Table(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            if not self.rows:
                self.rows.append([])
            self.rows[-1].append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr"):
            self.open = False

    def handle_data(self, data: str) -> None:
        if self.open and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def _cells(html: str) -> tuple[tuple[str, ...], ...]:
    """Rows of a table without merged cells; () where cells are merged, so the HTML is kept."""
    if re.search(r"(row|col)span\s*=\s*[\"']?[2-9]", html, re.I):
        return ()
    table = _Table()
    table.feed(html)
    return tuple(tuple(cell.strip() for cell in row) for row in table.rows)
