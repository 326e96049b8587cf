"""What proposers hand over: possible continuations, all of them in three arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOTHING = -1  # pads a continuation that is shorter than the others


@dataclass(frozen=True)
class Candidates:
    """Continuations of the sequence decoded so far.

    Args:
        tokens: (candidates, depth) int64, `NOTHING` from the end of each on.
        claim: (candidates,) int64, the kind of evidence, counted within the proposer; beliefs
            are kept by claim.
        match: (candidates,) int64, length of the context that the evidence rests on.
    """

    tokens: np.ndarray
    claim: np.ndarray
    match: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def right(self, decoded: np.ndarray) -> np.ndarray:
        """Which tokens came, all before them included: (candidates, tokens decoded or depth)."""
        span = min(len(decoded), self.tokens.shape[1])
        return np.logical_and.accumulate(self.tokens[:, :span] == decoded[:span], axis=1)


def follow(book: np.ndarray, starts: np.ndarray, depth: int) -> np.ndarray:
    """What stands in a book from each start on, padded with `NOTHING` (starts, depth).

    >>> follow(np.array([7, 8, 9]), np.array([1, 3]), 3).tolist()
    [[8, 9, -1], [-1, -1, -1]]
    """
    places = starts[:, None] + np.arange(depth)
    inside = places < len(book)
    return np.where(inside, book[np.where(inside, places, 0)], NOTHING)


def stack(parts: Sequence[Candidates], depth: int) -> Candidates:
    """Several proposers' candidates in one, claims as they are.

    Each continuation is cut at its first `NOTHING`; empty ones are left out.
    """
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Candidates(np.zeros((0, depth), dtype=np.int64), empty, empty)
    tokens = np.full((sum(map(len, parts)), depth), NOTHING, dtype=np.int64)
    row = 0
    for part in parts:
        width = min(depth, part.tokens.shape[1])
        tokens[row : row + len(part), :width] = part.tokens[:, :width]
        row += len(part)
    tokens[np.logical_or.accumulate(tokens == NOTHING, axis=1)] = NOTHING
    some = tokens[:, 0] != NOTHING if depth else np.zeros(len(tokens), dtype=bool)
    return Candidates(
        tokens[some],
        np.concatenate([part.claim for part in parts])[some],
        np.concatenate([part.match for part in parts])[some],
    )
