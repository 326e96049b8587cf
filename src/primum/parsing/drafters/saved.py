"""Regions that other programs have saved: four drafters that cost nothing to run."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.parsing.regions import Box, Kind, Region

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
    """PP-StructureV3's JSON."""
    blocks = result.get("res", result)["parsing_res_list"]
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


def dots(cells: Sequence[Mapping[str, Any]]) -> list[Region]:
    """dots.ocr's layout JSON, in its own input pixels."""
    return [_region(Box(*c["bbox"]), c["category"], c.get("text") or "") for c in cells]


READERS: dict[str, Callable[..., list[Region]]] = {
    "omnidocbench": omnidocbench,
    "pp_structure": pp_structure,
    "mineru": mineru,
    "dots": dots,
}


def read(path: str | Path) -> list[Region]:
    """Regions of one page from a file of PP-StructureV3, MinerU, dots.ocr or OmniDocBench.

    Raises:
        UserError: The file is not JSON, or is none of the four.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"The draft cannot be read: {error}", file=path) from None
    try:
        if isinstance(data, list) and data and "bbox" in data[0]:
            return dots(data)
        if isinstance(data, dict) and "parsing_res_list" in data.get("res", data):
            return pp_structure(data)
        if isinstance(data, dict) and "layout_dets" in data:
            return omnidocbench(data)
        if isinstance(data, dict) and "pdf_info" in data:
            return mineru(data["pdf_info"][0])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The draft lacks {error}", file=path) from None
    raise UserError(
        "The draft's format is not known",
        file=path,
        remedy="give a page of PP-StructureV3, MinerU (middle.json), dots.ocr or OmniDocBench",
    )


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
