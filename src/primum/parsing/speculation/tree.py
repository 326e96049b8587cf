"""One scored prefix tree from all candidates: built, scored and cut with array operations."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from primum.parsing.speculation.candidates import NOTHING, Candidates


@dataclass(frozen=True)
class Tree:
    """Nodes in an order in which parents come first; node 0 is the last decoded token.

    Args:
        tokens: (nodes,) int64, node 0's is not used.
        parents: (nodes,) int64, node 0's is 0.
        depths: (nodes,) int64, 0 at node 0.
        chances: (nodes,) float64, estimated chance that the node is accepted.
        claims: (nodes,) int64, the claim of the first candidate through the node.
        sight: (nodes, nodes) bool, whether a node sees another: its ancestors and itself.
    """

    tokens: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    chances: np.ndarray
    claims: np.ndarray
    sight: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether no node has two children."""
        return bool((self.parents[1:] == np.arange(len(self) - 1)).all())

    def best_chain(self) -> "Tree":
        """The branch with the most expected tokens, alone."""
        if self.is_chain:
            return self
        path = np.flatnonzero(self.sight[(self.sight @ self.chances).argmax()])
        return Tree(
            self.tokens[path],
            np.maximum(np.arange(len(path)) - 1, 0),
            self.depths[path],
            self.chances[path],
            self.claims[path],
            np.tri(len(path), dtype=bool),
        )


@cache  # asked for at every plain step
def bare() -> Tree:
    """A tree without drafts: one ordinary decoding step."""
    zero = np.zeros(1, dtype=np.int64)
    return Tree(zero, zero, zero, np.ones(1), zero - 1, np.ones((1, 1), dtype=bool))


@dataclass(frozen=True)
class Paths:
    """All candidates merged by their common prefixes, not yet cut.

    Nodes are numbered from 1 by depth; the root, which stands for the last decoded token, is 0.

    Args:
        cells: (depth, candidates) int64, which node a candidate's token is; 0 past its end. Equal
            prefixes lie side by side.
        nodes: (nodes,) int64, flat index of each node's first cell.
        leads: (nodes,) int64, the first candidate through each node.
        parents: (nodes,) int64.
        chances: (nodes,) float64, chance that a node is accepted, never above its parent's.
        order: (nodes,) int64, places in the arrays above, the likeliest node first.
    """

    candidates: Candidates
    cells: np.ndarray
    nodes: np.ndarray
    leads: np.ndarray
    parents: np.ndarray
    chances: np.ndarray
    order: np.ndarray


def merge(candidates: Candidates, chances: np.ndarray) -> Paths:
    """Merge candidates and score each node.

    In the order of their tokens, candidates with a common prefix are neighbours: a token makes a
    node unless the neighbour before has the same one and the same before it.

    Where candidates agree, the best of their chances counts, since they mostly rest on the same
    draft. Where they part, the chance that one of them is right is shared by their odds.

    Args:
        chances: Of each token given that the ones before it are right (candidates, depth).
    """
    count, depth = candidates.tokens.shape
    rows = np.ascontiguousarray(candidates.tokens)
    turn = rows.view(f"V{depth * rows.itemsize}").ravel().argsort(kind="stable")
    tokens, chances = rows[turn].T, chances[turn].T
    alive = tokens != NOTHING
    new = alive.copy()
    same = np.logical_and.accumulate(tokens[:, 1:] == tokens[:, :-1], axis=0)
    np.greater(alive[:, 1:], same, out=new[:, 1:])
    nodes = np.flatnonzero(new)
    cells = np.zeros((depth + 1, count), dtype=np.int64)
    np.cumsum(new, out=cells[1:].reshape(-1))
    cells[1:] *= alive
    parents = cells.reshape(-1)[nodes]  # one row up
    best = np.clip(np.maximum.reduceat((chances * alive).ravel(), nodes), 1e-9, 0.999)
    odds = best / (1 - best)
    hope = 1 - np.exp(np.bincount(parents, np.log1p(-best)))  # that one of the children is right
    share = np.zeros(len(nodes) + 1)
    share[1:] = odds * hope[parents] / np.bincount(parents, odds)[parents]
    path = np.cumprod(share[cells[1:]], axis=0).ravel()[nodes]
    leads = np.minimum.reduceat(np.where(alive, turn, count).ravel(), nodes)
    return Paths(
        candidates, cells[1:], nodes, leads, parents, path, np.argsort(-path, kind="stable")
    )


def cut(paths: Paths, size: int, floor: float = 0.0) -> Tree:
    """Keep the likeliest nodes: at most `size` beside node 0, none with a chance below `floor`."""
    order = paths.order[:size]
    order = np.sort(order[paths.chances[order] > floor])
    if not len(order):
        return bare()
    count = paths.cells.shape[1]
    nodes = len(order) + 1
    place = np.zeros(len(paths.nodes) + 1, dtype=np.int64)  # 0 for the root and for what was cut
    place[order + 1] = np.arange(1, nodes)
    first, leads = paths.nodes[order], paths.leads[order]
    levels, columns = first // count, first % count
    above = np.arange(levels[-1] + 1)[:, None]
    ancestors = np.where(above <= levels, place[paths.cells[: levels[-1] + 1, columns]], 0)
    sight = np.zeros((nodes, nodes), dtype=bool)
    sight[np.arange(1, nodes), ancestors] = True
    sight[:, 0] = True
    return Tree(
        np.concatenate([[0], paths.candidates.tokens[leads, levels]]),
        np.concatenate([[0], place[paths.parents[order]]]),
        np.concatenate([[0], levels + 1]),
        np.concatenate([[1.0], paths.chances[order]]),
        np.concatenate([[-1], paths.candidates.claim[leads]]),
        sight,
    )
