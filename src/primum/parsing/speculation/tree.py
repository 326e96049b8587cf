"""One scored prefix tree from all candidates: built, scored and cut with array operations."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from primum.parsing.speculation.candidates import NOTHING, Candidates

_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Tree:
    """Nodes in an order in which parents come first; node 0 is the last decoded token.

    Args:
        tokens: (nodes,) int64, node 0's is not used.
        parents: (nodes,) int64, node 0's is 0.
        depths: (nodes,) int64, 0 at node 0.
        chances: (nodes,) float64, estimated chance that the node is accepted.
        claims: (nodes,) int64, the claim of the likeliest candidate through the node.
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

    Args:
        node: (candidates, depth) int64, which node a candidate's token is; -1 past its end.
        first: (nodes,) int64, flat index of the first candidate token at each node.
        chance: (nodes,) float64, chance that a node is accepted, never above its parent's.
    """

    candidates: Candidates
    node: np.ndarray
    first: np.ndarray
    chance: np.ndarray


def merge(candidates: Candidates, chances: np.ndarray) -> Paths:
    """Merge candidates and score each node.

    Two candidates share a node if they share every token up to it; a sum of hashed tokens tells. A
    collision of hashes would cost a wasted node, never a wrong output: the target decides.

    Where candidates agree, the best of their chances counts, since they mostly rest on the same
    draft. Where they part, the chance that one of them is right is shared by their odds.
    """
    tokens = candidates.tokens
    count, depth = tokens.shape
    power = np.cumprod(np.full(depth, _MIX | np.uint64(1)))
    mixed = (tokens.astype(np.uint64) + np.uint64(1)) * _MIX
    mixed ^= mixed >> np.uint64(29)
    keys = np.cumsum(mixed * power, axis=1)
    alive = (tokens != NOTHING).ravel()
    flat = np.flatnonzero(alive)
    _, first, inverse = np.unique(keys.ravel()[flat], return_index=True, return_inverse=True)
    nodes = len(first)
    node = np.full(count * depth, -1, dtype=np.int64)
    node[flat] = inverse
    first = flat[first]
    node = node.reshape(count, depth)
    parent = np.where(first % depth == 0, nodes, node.ravel()[first - 1])
    best = np.zeros(nodes)
    np.maximum.at(best, inverse, np.minimum(chances.ravel()[flat], 0.999))
    odds = best / (1 - best)
    total = np.bincount(parent, odds, nodes + 1)
    all_miss = np.exp(np.bincount(parent, np.log1p(-best), nodes + 1))
    share = odds / total[parent] * (1 - all_miss[parent])
    step = np.where(node >= 0, share[np.maximum(node, 0)], 0.0)
    path = np.cumprod(step * (1 - 1e-9), axis=1)
    chance = path.ravel()[first]
    return Paths(candidates, node, first, chance)


def cut(paths: Paths, size: int, floor: float = 0.0) -> Tree:
    """Keep the likeliest nodes: at most `size` beside node 0, none with a chance below `floor`."""
    depth = paths.node.shape[1]
    order = np.argsort(-paths.chance, kind="stable")[:size]
    order = order[paths.chance[order] > floor]
    if not len(order):
        return bare()
    order = order[np.argsort(paths.first[order] % depth, kind="stable")]
    place = np.zeros(len(paths.chance) + 1, dtype=np.int64)  # 0 for what was cut
    place[order] = np.arange(1, len(order) + 1)
    first = paths.first[order]
    rows, columns = first // depth, first % depth
    kept = place[paths.node]  # (candidates, depth), node -1 reads the spare last place
    parents = np.where(columns == 0, 0, kept[rows, columns - 1])
    nodes = len(order) + 1
    sight = np.zeros((nodes, nodes), dtype=bool)
    ancestors = np.where(np.arange(depth) <= columns[:, None], kept[rows], 0)
    sight[np.arange(1, nodes)[:, None], ancestors] = True
    sight[:, 0] = True
    flat = paths.candidates.tokens.ravel()
    return Tree(
        np.concatenate([[0], flat[first]]),
        np.concatenate([[0], parents]),
        np.concatenate([[0], columns + 1]),
        np.concatenate([[1.0], paths.chance[order]]),
        np.concatenate([[-1], paths.candidates.claim[rows]]),
        sight,
    )
