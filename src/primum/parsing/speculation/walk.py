"""Which of the drafted tokens are the target's own."""

from typing import NamedTuple

import numpy as np

from primum.parsing.speculation.tree import Tree


class Walk(NamedTuple):
    """The accepted part of a tree.

    Args:
        nodes: Indices of the accepted nodes, node 0 first.
        tokens: The accepted tokens and the target's own next one, at least one token.
    """

    nodes: list[int]
    tokens: list[int]


def walk(tree: Tree, choices: np.ndarray) -> Walk:
    """Go down the tree as long as the target would have chosen the same.

    Args:
        choices: (nodes,) the target's choice after each node.

    >>> from primum.parsing.speculation.tree import bare
    >>> walk(bare(), np.array([7]))
    Walk(nodes=[0], tokens=[7])
    """
    if len(tree) == 1:
        return Walk([0], [int(choices[0])])
    right = np.flatnonzero(tree.tokens[1:] == choices[tree.parents[1:]]) + 1
    onward = dict(zip(tree.parents[right].tolist(), right.tolist(), strict=True))
    nodes = [0]
    while (node := onward.get(nodes[-1])) is not None:
        nodes.append(node)
    return Walk(nodes, choices[nodes].tolist())
