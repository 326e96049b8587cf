"""What was written on earlier pages: running headers, table heads, mark-up and idioms."""

from collections.abc import Sequence

import numpy as np

from primum.parsing.speculation.automaton import SuffixAutomaton
from primum.parsing.speculation.candidates import Candidates, follow
from primum.parsing.speculation.draft import Draft

PAGE_END = -2  # parts pages; no output matches it


class EarlierPages:
    """What followed the output's suffix on the pages before, longest match first.

    Args:
        limit: Continuations at most.
        tokens: Tokens of earlier pages that are remembered; the oldest pages go first.
    """

    name = "earlier pages"
    claims = ("earlier pages",)

    def __init__(self, limit: int = 6, tokens: int = 16384) -> None:
        self.limit, self.tokens = limit, tokens
        self._pages: list[list[int]] = []
        self._page: list[int] = []
        self._index([])

    def _index(self, tokens: list[int]) -> None:
        self._automaton = SuffixAutomaton(tokens)
        self._book = np.asarray(tokens, dtype=np.int64)

    def start(self, drafts: Sequence[Draft]) -> None:
        """Remember the page that ended."""
        if self._page:
            self._pages.append([*self._page, PAGE_END])
            if len(self._book) + len(self._pages[-1]) > self.tokens:
                while len(self._pages) > 1 and sum(map(len, self._pages)) > self.tokens // 2:
                    del self._pages[0]
                self._index([token for page in self._pages for token in page])
            else:
                for token in self._pages[-1]:
                    self._automaton.push(token)
                self._book = np.concatenate([self._book, self._pages[-1]])
        self._page = []
        self._state = self._length = 0

    def push(self, tokens: Sequence[int]) -> None:
        """Follow the output."""
        self._page += tokens
        for token in tokens:
            self._state, self._length = self._automaton.step(self._state, self._length, token)

    def propose(self, depth: int) -> Candidates | None:
        """Continuations by the automaton's suffix links."""
        found: dict[int, int] = {}
        state, length = self._state, self._length
        while state > 0 and len(found) < self.limit:
            for end in reversed(self._automaton.recent[state]):
                found.setdefault(end, length)
            state = self._automaton.link[state]
            length = self._automaton.length[state] if state > 0 else 0
        if not found:
            return None
        starts = np.fromiter(found, dtype=np.int64)[: self.limit] + 1
        tokens = follow(self._book, starts, depth)
        tokens[tokens == PAGE_END] = -1
        return Candidates(
            tokens,
            np.zeros(len(starts), dtype=np.int64),
            np.fromiter(found.values(), dtype=np.int64)[: self.limit],
        )
