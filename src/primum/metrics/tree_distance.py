"""How many nodes of an ordered tree must be put in, taken out or renamed to get another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def tree_distance(first: Sequence[int], second: Sequence[int], rename: np.ndarray) -> float:
    """Edit distance of ordered trees; putting in and taking out cost 1 (Zhang and Shasha, 1989).

    Rows of the forest tables are computed whole, so that trees of thousands of cells take seconds.

    Args:
        first, second: For each node in postorder, the postorder index of its leftmost leaf.
        rename: (len(first), len(second)) cost of turning one node into another.

    A root with two leaves against a root with one:

    >>> tree_distance([0, 1, 0], [0, 0], np.zeros((3, 2)))
    1.0
    """
    if not first or not second:
        return float(max(len(first), len(second)))
    left, right = np.asarray(first), np.asarray(second)
    trees = np.zeros((len(first), len(second)))
    for i in keyroots(first):
        for j in keyroots(second):
            forest_distances(i, j, left, right, rename, trees)
    return float(trees[-1, -1])


def keyroots(leftmost: Sequence[int]) -> list[int]:
    """Nodes that are not the first child of another: the last of each leftmost leaf."""
    return sorted({leaf: node for node, leaf in enumerate(leftmost)}.values())


def forest_distances(
    i: int, j: int, left: np.ndarray, right: np.ndarray, rename: np.ndarray, trees: np.ndarray
) -> None:
    """Fill in `trees` for all pairs of nodes on the leftmost paths of `i` and `j`."""
    top, side = left[i], right[j]
    columns = np.arange(side, j + 1)
    whole = right[columns] == side  # columns whose forest is a single tree
    before = right[columns] - side  # table column left of each column's tree
    steps = np.arange(len(columns) + 1, dtype=float)
    table = np.empty((i - top + 2, len(columns) + 1))
    table[0] = steps
    for node in range(top, i + 1):
        row = node - top + 1
        above = table[row - 1]
        taken_out = above + 1
        if left[node] == top:
            replaced = np.where(
                whole,
                above[:-1] + rename[node, columns],
                table[0][before] + trees[node, columns],
            )
        else:
            replaced = table[left[node] - top][before] + trees[node, columns]
        best = taken_out
        best[1:] = np.minimum(best[1:], replaced)
        # putting in costs 1 a step: the least of all columns to the left, each as far as it is away
        table[row] = np.minimum.accumulate(best - steps) + steps
        if left[node] == top:
            trees[node, columns[whole]] = table[row][1:][whole]
