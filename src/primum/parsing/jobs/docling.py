"""Pages as a DoclingDocument (schema 1.3), the interchange format of the docling project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

LABELS = {
    "title": "section_header", "formula": "formula", "code": "code", "caption": "caption",
    "footnote": "footnote", "header": "page_header", "footer": "page_footer",
    "page_number": "page_footer",
}  # fmt: skip
FURNITURE = ("page_header", "page_footer")


def document(name: str, pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A document of pages as a job writes them."""
    made: dict[str, Any] = {
        "schema_name": "DoclingDocument",
        "version": "1.3.0",
        "name": name,
        "furniture": root("furniture"),
        "body": root("body"),
        "groups": [], "texts": [], "pictures": [], "tables": [],
        "key_value_items": [], "form_items": [], "pages": {},
    }  # fmt: skip
    for number, page in enumerate(pages, 1):
        number = page["page"] or number
        size = {"width": page["width"], "height": page["height"]}
        made["pages"][str(number)] = {"size": size, "page_no": number}
        for block in page["blocks"]:
            if block["category"] == "list":
                add_list(made, block, number)
            else:
                add(made, block, number)
    return made


def root(layer: str) -> dict[str, Any]:
    """The start of a tree."""
    return {
        "self_ref": f"#/{layer}",
        "children": [],
        "content_layer": layer,
        "name": "_root_",
        "label": "unspecified",
    }


def item(made: dict[str, Any], kind: str, label: str, parent: dict[str, Any]) -> dict[str, Any]:
    """A new node below another, listed where its kind belongs."""
    own = {
        "self_ref": f"#/{kind}/{len(made[kind])}",
        "parent": {"$ref": parent["self_ref"]},
        "children": [],
        "content_layer": "furniture" if label in FURNITURE else "body",
        "label": label,
    }
    parent["children"].append({"$ref": own["self_ref"]})
    made[kind].append(own)
    return own


def provenance(block: dict[str, Any], page: int) -> list[dict[str, Any]]:
    """Where a block stands, if that is known."""
    if block["box"] is None:
        return []
    left, top, right, bottom = block["box"]
    box = {"l": left, "t": top, "r": right, "b": bottom, "coord_origin": "TOPLEFT"}
    return [{"page_no": page, "bbox": box, "charspan": [0, len(block["text"])]}]


def add(made: dict[str, Any], block: dict[str, Any], page: int) -> None:
    """A block that is not a list."""
    category, text, prov = block["category"], block["text"], provenance(block, page)
    if category == "figure":
        own = item(made, "pictures", "picture", made["body"])
        own |= {"prov": prov, "captions": [], "references": [], "footnotes": [], "annotations": []}
        return
    if category == "table":
        own = item(made, "tables", "table", made["body"])
        own |= {"prov": prov, "captions": [], "references": [], "footnotes": [],
                "data": table_data(text)}  # fmt: skip
        return
    label = LABELS.get(category, "text")
    parent = made["furniture"] if label in FURNITURE else made["body"]
    own = item(made, "texts", label, parent)
    plain = text
    if label == "section_header":
        marks = re.match(r"(#*)\s*", text)
        assert marks is not None
        own["level"] = max(1, len(marks[1]))
        plain = text[marks.end() :]
    elif label == "formula":
        plain = text.strip().removeprefix("$$").removesuffix("$$").strip()
    elif label == "code":
        own |= {"captions": [], "references": [], "footnotes": [], "code_language": "unknown"}
    own |= {"prov": prov, "orig": text, "text": plain}


def add_list(made: dict[str, Any], block: dict[str, Any], page: int) -> None:
    """A list: a group with an item a line that has a mark."""
    group = item(made, "groups", "list", made["body"]) | {"name": "list"}
    made["groups"][-1] = group
    for line in re.split(r"\n(?=\s*(?:[-*+•]|\d+[.)])\s)", block["text"]):
        mark = re.match(r"\s*([-*+•]|\d+[.)])\s+", line)
        own = item(made, "texts", "list_item", group)
        own |= {
            "prov": provenance(block, page),
            "orig": line,
            "text": line[mark.end() :] if mark else line,
            "enumerated": bool(mark and mark[1][0].isdigit()),
            "marker": mark[1] if mark else "-",
        }


class Cells(HTMLParser):
    """The cells of an HTML table."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.found, self.taken = -1, [], set()  # type: ignore[var-annotated]
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.row += 1
        elif tag in ("td", "th"):
            told = dict(attrs)
            wide, high = span(told.get("colspan")), span(told.get("rowspan"))
            row, column = max(self.row, 0), 0
            while (row, column) in self.taken:
                column += 1
            self.taken |= {(row + y, column + x) for y in range(high) for x in range(wide)}
            self.found.append([row, column, high, wide, tag == "th", ""])
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1][-1] += data


def span(text: str | None) -> int:
    """A cell's span; anything odd is 1."""
    return max(1, min(int(text), 1000)) if text and text.isdigit() else 1


def table_data(html: str) -> dict[str, Any]:
    """An HTML or pipe table's cells."""
    if "<t" in html:
        reader = Cells()
        reader.feed(html)
        cells = reader.found
    else:
        lines = [line.strip().strip("|").split("|") for line in html.splitlines()]
        lines = [line for line in lines if not all(set(cell) <= set("-: ") for cell in line)]
        cells = [
            [row, column, 1, 1, row == 0, text.strip()]
            for row, line in enumerate(lines)
            for column, text in enumerate(line)
        ]
    return {
        "table_cells": [
            {
                "row_span": high, "col_span": wide,
                "start_row_offset_idx": row, "end_row_offset_idx": row + high,
                "start_col_offset_idx": column, "end_col_offset_idx": column + wide,
                "text": text.strip(), "column_header": head, "row_header": False,
                "row_section": False,
            }
            for row, column, high, wide, head, text in cells
        ],
        "num_rows": max((row + high for row, _, high, *_ in cells), default=0),
        "num_cols": max((column + wide for _, column, _, wide, *_ in cells), default=0),
    }  # fmt: skip
