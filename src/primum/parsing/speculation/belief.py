"""How often each kind of evidence turned out right: learned while decoding, never configured."""

import numpy as np

from primum.parsing.speculation.candidates import NOTHING, Candidates

# Lengths of match that are told apart: 0 ... 7, then doublings.
_BUCKET = np.concatenate([np.arange(8), np.full(4, 8), np.full(4, 9), np.full(16, 10), [11]])
BUCKETS = 12
# What the demo pages teach a region match, rounded.
PRIOR = np.array([0.2, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.95, 0.985])


def bucket(match: np.ndarray) -> np.ndarray:
    """Group lengths of match whose reliability hardly differs."""
    return _BUCKET[np.minimum(match, len(_BUCKET) - 1)]


class Belief:
    """Chance that a continuation's next token is right, by claim and length of match.

    Inside a continuation the match grows with every token, so one table serves all depths. Counts
    fade, and start from a prior that grows with the length of match.

    Args:
        claims: Kinds of evidence told apart.
        memory: Trials that a rate remembers.
    """

    def __init__(self, claims: int, memory: float = 100.0) -> None:
        self.memory = memory
        self._trials = np.full((claims, BUCKETS), 4.0)
        self._hits = 4.0 * np.tile(PRIOR, (claims, 1))

    @property
    def rates(self) -> np.ndarray:
        """Chances (claims, `BUCKETS`)."""
        return self._hits / self._trials

    def chances(self, candidates: Candidates) -> np.ndarray:
        """Chance of each token given that the ones before it are right (candidates, depth)."""
        depth = candidates.tokens.shape[1]
        groups = bucket(candidates.match[:, None] + np.arange(depth))
        return self.rates[candidates.claim[:, None], groups]

    def learn(self, candidates: Candidates, right: np.ndarray) -> None:
        """What was proposed came or did not, as `candidates.right` tells."""
        span = right.shape[1]
        tried = candidates.tokens[:, :span] != NOTHING
        tried[:, 1:] &= right[:, :-1]
        groups = bucket(candidates.match[:, None] + np.arange(span))
        cell = candidates.claim[:, None] * BUCKETS + groups
        size = self._trials.size
        trials = np.bincount(cell[tried], minlength=size).reshape(self._trials.shape)
        hits = np.bincount(cell[right & tried], minlength=size).reshape(self._trials.shape)
        fade = self.memory / np.maximum(self.memory, self._trials + trials)
        self._trials = (self._trials + trials) * fade
        self._hits = (self._hits + hits) * fade
