"""Scores by what annotators said of pages, tables, text and formulas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from primum.benchmarks.results import Result

COLUMNS = ("text", "formula", "table", "order")


def attribute_tables(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Tables for the report: by page attribute, then by attribute of each kind of block."""
    return [
        by_page(results),
        by_block(results, "text", "Text by attribute"),
        by_block(results, "formula", "Formulas by attribute"),
        by_table(results),
    ]


def by_page(results: Sequence[Result]) -> dict[str, Any]:
    """Edit distances and TEDS of pages that share an attribute, averaged over pages."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        for key, values in result.tags.items():
            for value in values.split(", ") if key == "special_issue" else [values]:
                groups.setdefault(f"{key}: {value}", []).append(result)
    rows = []
    for label, pages in sorted(groups.items()):
        ratios = [
            mean(
                edits / length for edits, length in (page.record[name] for page in pages) if length
            )
            for name in COLUMNS
        ]
        similar = mean(
            sum(row["teds"] for row in tables) / len(tables)
            for page in pages
            if (tables := page.record["tables"])
        )
        rows.append([label, len(pages), *ratios, similar])
    return {
        "title": "By page attribute",
        "note": "Edit distances (lower is better) and TEDS, averaged within a page, then over "
        "pages; an empty cell has nothing to score.",
        "header": ["attribute", "pages", "text", "formulas", "tables", "reading order", "TEDS"],
        "rows": rows,
    }


def by_block(results: Sequence[Result], kind: str, title: str) -> dict[str, Any]:
    """Edit distance of single blocks with an attribute."""
    groups: dict[str, list[float]] = {}
    for result in results:
        for edits, length, labels in result.record["blocks"][kind]:
            for label in labels:
                groups.setdefault(label, []).append(edits / length if length else 0.0)
    return {
        "title": title,
        "note": "Edit distance, averaged over blocks; joined blocks count under the attributes of "
        "all their parts.",
        "header": ["attribute", "blocks", "edit distance"],
        "rows": [[label, len(own), mean(own)] for label, own in sorted(groups.items())],
    }


def by_table(results: Sequence[Result]) -> dict[str, Any]:
    """TEDS of tables with an attribute."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        for table in result.record["tables"]:
            for label in table["attributes"]:
                groups.setdefault(label, []).append((table["teds"], table["structure"]))
    return {
        "title": "Tables by attribute",
        "note": "TEDS, averaged over tables.",
        "header": ["attribute", "tables", "TEDS", "TEDS structure only"],
        "rows": [
            [label, len(own), *(mean(column) for column in zip(*own, strict=True))]
            for label, own in sorted(groups.items())
        ],
    }


def mean(values: Iterable[float]) -> str:
    """A mean as the report prints it; empty where there is nothing."""
    given = list(values)
    return f"{sum(given) / len(given):.3f}" if given else ""
