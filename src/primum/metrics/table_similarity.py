"""TEDS: how alike two HTML tables are, with or without what their cells say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.extras import require
from primum.metrics.bootstrapped_mean import bootstrapped_mean
from primum.metrics.score import Score
from primum.metrics.tree_distance import tree_distance


@dataclass
class Node:
    """An element of a table; a cell keeps its characters and tags as one sequence.

    Attributes:
        kind: Tag and, of a cell, its spans: nodes of other kinds are never renamed for less than 1.
        content: A cell's characters and the tags between them.
        children: Of everything but cells.
    """

    kind: tuple[str, int, int]
    content: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)


def teds(guess: str, truth: str, *, structure_only: bool = False) -> float:
    """Tree-edit-distance similarity (Zhong et al., 2020): 1 - distance / nodes of the larger table.

    A cell that differs in text costs its normalised edit distance, one that differs in tag or span
    costs 1. What is no table, or cannot be parsed, scores 0.

    Args:
        guess, truth: HTML documents with a table right in their body.
        structure_only: TEDS-S, blind to what cells say.

    >>> page = "<html><body><table><tr><td>{}</td><td>2</td></tr></table></body></html>"
    >>> teds(page.format("10"), page.format("11"))
    0.8333333333333334
    """
    if not guess or not truth:
        return 0.0
    trees = [table_in(markup) for markup in (guess, truth)]
    if trees[0] is None or trees[1] is None:
        return 0.0
    size = max(tree[1] for tree in trees if tree is not None)
    first, second = postorder(trees[0][0]), postorder(trees[1][0])
    rename = rename_costs(first[0], second[0], structure_only)
    distance = tree_distance(first[1], second[1], rename)
    return 1.0 - distance / size if size else 0.0


def table_in(markup: str) -> tuple[Node, int] | None:
    """The first table of a document and how many elements lie below it."""
    require("lxml", "parsing")
    from lxml import etree, html

    parser = html.HTMLParser(remove_comments=True, encoding="utf-8")
    try:
        page = html.fromstring(markup, parser=parser)
        found = page.xpath("body/table")
        return (node_of(found[0]), len(found[0].xpath(".//*"))) if found else None
    except (etree.LxmlError, ValueError):  # not markup, or a span that is no number
        return None


def node_of(element: Any) -> Node:
    """An element and what is below it; nothing below a cell is a node."""
    if element.tag == "td":
        columns, rows = (int(element.get(name, "1")) for name in ("colspan", "rowspan"))
        return Node(("td", columns, rows), tokens(element)[1:-1])
    return Node((element.tag, 0, 0), children=[node_of(child) for child in element])


def tokens(element: Any) -> list[str]:
    """An element's tags and characters, in order."""
    found = [f"<{element.tag}>", *(element.text or "")]
    for child in element:
        found += tokens(child)
    if element.tag != "unk":
        found.append(f"</{element.tag}>")
    return found if element.tag == "td" else [*found, *(element.tail or "")]


def postorder(root: Node) -> tuple[list[Node], list[int]]:
    """Nodes from the leaves up, and the index of each one's leftmost leaf."""
    nodes: list[Node] = []
    leftmost: list[int] = []

    def visit(node: Node) -> int:
        first = None
        for child in node.children:
            leaf = visit(child)
            first = leaf if first is None else first
        nodes.append(node)
        leftmost.append(len(nodes) - 1 if first is None else first)
        return leftmost[-1]

    visit(root)
    return nodes, leftmost


def rename_costs(first: Sequence[Node], second: Sequence[Node], structure_only: bool) -> np.ndarray:
    """(first, second) what it costs to turn one node into another."""
    kinds: dict[tuple[str, int, int], int] = {}
    codes = [
        np.array([kinds.setdefault(node.kind, len(kinds)) for node in nodes])
        for nodes in (first, second)
    ]
    costs = (codes[0][:, None] != codes[1][None, :]).astype(float)
    if structure_only:
        return costs
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    letters: dict[str, str] = {}
    texts = [[spelt(node.content, letters) for node in nodes] for nodes in (first, second)]
    edits = cdist(*texts, scorer=Levenshtein.distance, dtype=np.int64)
    longer = np.maximum.outer([len(one) for one in texts[0]], [len(one) for one in texts[1]])
    return np.where(costs > 0, costs, edits / np.maximum(longer, 1))


def spelt(content: Sequence[str], letters: dict[str, str]) -> str:
    """A sequence as a string of one character an item: tags become private ones."""
    return "".join(
        item if len(item) == 1 else letters.setdefault(item, chr(0xF0000 + len(letters)))
        for item in content
    )


class TableSimilarity(Metric):
    """Mean TEDS over tables, with a bootstrap interval over tables.

    >>> import torch
    >>> metric = TableSimilarity("TEDS")
    >>> metric.update(torch.tensor([1.0, 0.5]))
    >>> print(metric.compute())
    75.0 % [50.0, 100.0], n = 2
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    values: list[Tensor]

    def __init__(self, name: str = "TEDS", protocol: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_name, self.protocol = name, protocol
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, values: Tensor) -> None:
        """Remember the similarities of a batch of tables (n,)."""
        self.values.append(values.double())

    def compute(self) -> Score:
        """The mean so far, with its interval."""
        values = dim_zero_cat(self.values).tolist() if len(self.values) else []
        return bootstrapped_mean(
            values,
            self.score_name,
            "tables",
            protocol=self.protocol,
            higher_is_better=True,
            unit="proportion",
        )
