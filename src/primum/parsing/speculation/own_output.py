"""The sequence's own output as a draft: tables, lists and formulas repeat themselves."""

from collections.abc import Sequence

import numpy as np

from primum.parsing.speculation.automaton import SuffixAutomaton
from primum.parsing.speculation.candidates import Candidates
from primum.parsing.speculation.draft import Draft


class OwnOutput:
    """What followed the latest repeats of the output's suffix, longest repeat first.

    A repeat that reaches the end of the output is continued with its own period.

    Args:
        limit: Continuations at most.
    """

    name = "own output"
    claims = ("own output",)

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self.start(())

    def start(self, drafts: Sequence[Draft]) -> None:
        """Forget the output."""
        self._automaton = SuffixAutomaton()
        self._book = np.zeros(1024, dtype=np.int64)

    @property
    def match(self) -> int:
        """Length of the output's longest suffix that it has written before."""
        return self._automaton.repeated

    def push(self, tokens: Sequence[int]) -> None:
        """Grow the automaton."""
        size, new = self._automaton.size, len(tokens)
        if size + new > len(self._book):
            self._book = np.concatenate([self._book, np.zeros(size + new, dtype=np.int64)])
        self._book[size : size + new] = tokens
        for token in tokens:
            self._automaton.push(token)

    def propose(self, depth: int) -> Candidates | None:
        """Continuations by the automaton's suffix links."""
        found: dict[int, int] = {}
        for length, ends in self._automaton.repeats():
            for end in reversed(ends):
                found.setdefault(end, length)
            if len(found) >= self.limit:
                break
        if not found:
            return None
        starts = np.fromiter(found, dtype=np.int64)[: self.limit] + 1
        match = np.fromiter(found.values(), dtype=np.int64)[: self.limit]
        period = self._automaton.size - starts
        places = starts[:, None] + np.arange(depth) % period[:, None]
        return Candidates(self._book[places], np.zeros(len(starts), dtype=np.int64), match)
