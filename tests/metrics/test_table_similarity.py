"""TEDS against the definition of tree edit distance, and against cases worked by hand."""

import random
from functools import cache

import numpy as np
import pytest

from primum.metrics.table_similarity import Node, postorder, teds
from primum.metrics.tree_distance import tree_distance

Tree = tuple[int, tuple["Tree", ...]]  # type: ignore[misc]


def random_tree(source: random.Random, size: int) -> Tree:
    children = []
    left = size - 1
    while left > 0:
        take = source.randint(1, left)
        children.append(random_tree(source, take))
        left -= take
    return source.randrange(3), tuple(children)


@cache
def by_definition(first: tuple[Tree, ...], second: tuple[Tree, ...]) -> float:
    """Edit distance of forests: take out, put in or match the roots of the last trees."""
    if not first or not second:
        return sum(map(count, first)) + sum(map(count, second))
    (a, below_a), (b, below_b) = first[-1], second[-1]
    return min(
        by_definition(first[:-1] + below_a, second) + 1,
        by_definition(first, second[:-1] + below_b) + 1,
        by_definition(first[:-1], second[:-1]) + by_definition(below_a, below_b) + 0.5 * (a != b),
    )


def count(tree: Tree) -> int:
    return 1 + sum(map(count, tree[1]))


def as_node(tree: Tree) -> Node:
    return Node(("any", tree[0], 0), children=[as_node(child) for child in tree[1]])


@pytest.mark.parametrize("seed", range(40))
def test_distance_is_that_of_the_definition(seed: int) -> None:
    source = random.Random(seed)
    trees = [random_tree(source, source.randint(1, 9)) for _ in range(2)]
    (first, left), (second, right) = (postorder(as_node(tree)) for tree in trees)
    rename = np.array([[0.5 * (a.kind != b.kind) for b in second] for a in first])
    assert tree_distance(left, right, rename) == by_definition((trees[0],), (trees[1],))


def table(rows: list[str]) -> str:
    inside = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<html><body><table>{inside}</table></body></html>"


def test_cases_by_hand() -> None:
    whole = table(["<td>ab</td><td>c</td>", "<td>d</td><td>e</td>"])
    assert teds(whole, whole) == 1
    lost = table(["<td>ab</td><td>c</td>", "<td>d</td>"])
    assert teds(lost, whole) == pytest.approx(1 - 1 / 6)  # one node of 2 rows and 4 cells
    spanned = table(["<td colspan='2'>ab</td>", "<td>d</td><td>e</td>"])
    assert teds(spanned, whole) == pytest.approx(1 - 2 / 6)  # one cell renamed, one lost
    misread = table(["<td>aX</td><td>c</td>", "<td>d</td><td>e</td>"])
    assert teds(misread, whole) == pytest.approx(1 - 0.5 / 6)
    assert teds(misread, whole, structure_only=True) == 1


@pytest.mark.parametrize("broken", ["", "no table", "<p>", table(["<td colspan='two'>a</td>"])])
def test_what_is_no_table_scores_nothing(broken: str) -> None:
    assert teds(broken, table(["<td>a</td>"])) == 0


@pytest.mark.seconds
def test_a_large_table_takes_seconds() -> None:
    rows = ["".join(f"<td>{r * c}</td>" for c in range(12)) for r in range(60)]
    worse = [row.replace("<td>12</td>", "") for row in rows]
    assert 0.9 < teds(table(worse), table(rows)) < 1
