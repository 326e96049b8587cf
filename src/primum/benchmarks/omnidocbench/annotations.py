"""What annotators marked on a page, as OmniDocBench's JSON holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primum.errors import UserError

#: looked for in a prediction, and left out of every score
IGNORED = (
    "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm",
    "code_algorithm_caption", "header", "footer", "page_footnote", "page_number",
    "equation_caption",
)  # fmt: skip
#: read as text, in the order in which blocks without a place in the reading order are listed
TEXT = (
    "text_block", "title", "code_txt", "code_txt_caption", "reference", "equation_caption",
    "figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm",
    "code_algorithm_caption", "header", "footer", "page_footnote", "page_number",
)  # fmt: skip
FORMULA = "equation_isolated"
TABLE = "table"


@dataclass(frozen=True)
class Block:
    """A region of a page that is scored.

    Attributes:
        category: Its kind in the annotations' words.
        order: Place in the reading order, from 1; None where it has none.
        content: Text, LaTeX of a formula, HTML of a table.
        attributes: What scores are broken down by (`{"text_language": "text_english"}`).
        latex: LaTeX of a table, where annotated.
    """

    category: str
    order: float | None
    content: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    latex: str = ""


def read_pages(path: Path) -> list[dict[str, Any]]:
    """The pages of an annotation file, checked as far as scoring reads them.

    Raises:
        UserError: The file is missing or not OmniDocBench's.
    """
    if not path.is_file():
        raise UserError(
            "There is no such annotation file",
            file=path,
            remedy="download OmniDocBench.json and its images, and name it: benchmark.data=FILE",
        )
    try:
        pages = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"This file is damaged: {error}", file=path) from None
    if not isinstance(pages, list) or not pages:
        raise UserError("This file is no list of annotated pages", file=path)
    for number, page in enumerate(pages, 1):
        try:
            Path(page["page_info"]["image_path"])
            for block in page["layout_dets"]:
                block["category_type"], block["anno_id"]
        except (TypeError, KeyError) as error:
            raise UserError(
                f"This page is not annotated as OmniDocBench's are: {error} is missing",
                file=path,
                row=number,
            ) from None
    return pages


def page_name(page: Mapping[str, Any]) -> str:
    """File name of a page's image: its identity."""
    return Path(page["page_info"]["image_path"]).name


def page_size(page: Mapping[str, Any]) -> tuple[int, int]:
    """(width, height) of a page's picture in pixels.

    Many annotations have the two swapped; the outlines of the blocks, which are right, tell.

    >>> block = {"poly": [0, 0, 90, 0, 90, 40, 0, 40]}
    >>> page_size({"page_info": {"width": 50, "height": 100}, "layout_dets": [block]})
    (100, 50)
    """
    width, height = int(page["page_info"]["width"]), int(page["page_info"]["height"])
    outlines = [block["poly"] for block in page["layout_dets"] if block.get("poly")]
    right = max((max(poly[0::2]) for poly in outlines), default=0)
    bottom = max((max(poly[1::2]) for poly in outlines), default=0)
    outside = max(right - width, 0) + max(bottom - height, 0)
    turned = max(right - height, 0) + max(bottom - width, 0)
    return (height, width) if turned < outside else (width, height)


def blocks_of(page: Mapping[str, Any], *, compat: bool = True) -> dict[str, list[Block]]:
    """A page's blocks by category, paragraphs that the layout broke joined again.

    Args:
        page: One entry of the annotation file.
        compat: Keep the published scorer's habit of repeating the middle part of a paragraph
            that was broken twice; otherwise every part occurs once.
    """
    groups = broken_paragraphs(page)
    broken = {part for group in groups for part in group}
    found: dict[str, list[Block]] = {}
    parts: dict[Any, Mapping[str, Any]] = {}
    for block in page["layout_dets"]:
        if block["anno_id"] in broken:
            parts[block["anno_id"]] = block
        else:
            found.setdefault(block["category_type"], []).append(block_from(block))
    for group in groups:
        members = [parts[part] for part in group if part in parts]
        if not compat:
            members = list({id(member): member for member in members}.values())
        if not members:
            continue
        members.sort(key=lambda block: block.get("order") or 0)
        first = members[0]
        whole = Block(
            first["category_type"],
            first.get("order"),
            "".join(str(block.get("text", "")) for block in members),
        )
        found.setdefault(whole.category, []).append(whole)
    return found


def broken_paragraphs(page: Mapping[str, Any]) -> list[list[Any]]:
    """Ids of the parts of each paragraph that runs over a column or figure, in relation order."""
    groups: list[list[Any]] = []
    for relation in page.get("extra", {}).get("relation", ()):
        if relation["relation_type"] != "truncated":
            continue
        pair = [relation["source_anno_id"], relation["target_anno_id"]]
        joined = [group for group in groups if set(pair) & set(group)]
        for group in joined:
            group += pair
        if not joined:
            groups.append(pair)
    return groups


def block_from(block: Mapping[str, Any]) -> Block:
    """A block as scoring reads it."""
    category = block["category_type"]
    key = {TABLE: "html", FORMULA: "latex"}.get(category, "text")
    return Block(
        category,
        block.get("order"),
        str(block.get(key, "")),
        block.get("attribute") or {},
        str(block.get("latex", "")),
    )


def in_order(blocks: Mapping[str, Sequence[Block]], categories: Sequence[str]) -> list[Block]:
    """Blocks of the categories by reading order; those without a place come first."""
    chosen = [block for category in categories for block in blocks.get(category, ())]
    return sorted(chosen, key=lambda block: block.order or 0)
