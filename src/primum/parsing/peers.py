"""What drafting is compared with: prompt lookup, and the matcher of the paper."""

from collections.abc import Sequence
from math import inf

import numpy as np

from primum.parsing.speculation.belief import BUCKETS, Belief
from primum.parsing.speculation.budget import FixedBudget
from primum.parsing.speculation.candidates import Candidates, follow
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.speculator import Speculator


class _Certain(Belief):
    """Believes every continuation and learns nothing: nearer nodes come first."""

    def __init__(self) -> None:
        super().__init__(claims=1)
        self._hits = np.tile(self._trials * 0.99, (1, 1))
        assert self._hits.shape == (1, BUCKETS)

    def learn(self, candidates: Candidates, right: np.ndarray) -> None:
        """Nothing."""


class FixedWindow:
    """Every place in the drafts where the last `window` tokens occur (HSD, section 3.2).

    Args:
        window: Tokens that must match; the paper's default is 3.
    """

    name = "fixed window"
    claims = ("fixed window",)
    match = 0

    def __init__(self, window: int = 3) -> None:
        self.window = window
        self.start(())

    def start(self, drafts: Sequence[Draft]) -> None:
        """One book of all drafts."""
        pieces = [piece for draft in drafts for piece in (draft.tokens, [-1])]
        self._book = np.concatenate(pieces).astype(np.int64) if pieces else np.zeros(0, np.int64)
        self._output: list[int] = []

    def push(self, tokens: Sequence[int]) -> None:
        """Remember the last window."""
        self._output = [*self._output, *tokens][-self.window :]

    def propose(self, depth: int) -> Candidates | None:
        """All suffixes behind the window's occurrences."""
        size = self.window
        if len(self._output) < size or len(self._book) <= size:
            return None
        windows = np.lib.stride_tricks.sliding_window_view(self._book, size)
        starts = np.flatnonzero((windows == self._output).all(1)) + size
        if not len(starts):
            return None
        zeros = np.zeros(len(starts), dtype=np.int64)
        return Candidates(follow(self._book, starts, depth), zeros, zeros)


class PromptLookup:
    """What followed the first occurrence of the last two tokens in the output (transformers).

    Args:
        window: Longest match tried.
        tokens: Length of a draft.
    """

    name = "prompt lookup"
    claims = ("prompt lookup",)
    match = 0

    def __init__(self, window: int = 2, tokens: int = 10) -> None:
        self.window, self.tokens = window, tokens
        self.start(())

    def start(self, drafts: Sequence[Draft]) -> None:
        """Forget the output; drafts are not looked at."""
        self._output: list[int] = []

    def push(self, tokens: Sequence[int]) -> None:
        """Remember."""
        self._output += tokens

    def propose(self, depth: int) -> Candidates | None:
        """One chain."""
        book = np.asarray(self._output, dtype=np.int64)
        for size in range(self.window, 0, -1):
            if len(book) <= size:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(book[:-1], size)
            starts = np.flatnonzero((windows == book[-size:]).all(1))[:1] + size
            if len(starts):
                zeros = np.zeros(1, dtype=np.int64)
                return Candidates(follow(book, starts, min(depth, self.tokens)), zeros, zeros)
        return None


def fixed_window(nodes: int = 48, window: int = 3) -> Speculator:
    """The paper's matcher under a node budget."""
    return _peer(FixedWindow(window), nodes)


def prompt_lookup() -> Speculator:
    """Prompt lookup as transformers configures it."""
    return _peer(PromptLookup(), 10)


def _peer(proposer: FixedWindow | PromptLookup, nodes: int) -> Speculator:
    budget = FixedBudget(nodes, floor=0.0)
    speculator = Speculator([proposer], budget, depth=nodes, patience=inf)
    speculator.belief = _Certain()
    return speculator
