"""Where in the drafts are we: the output's longest suffix, falling back to shorter ones."""

from collections.abc import Sequence

import numpy as np

from primum.parsing.speculation.automaton import Occurrences
from primum.parsing.speculation.candidates import Candidates, follow
from primum.parsing.speculation.draft import Draft

NEAR, FRESH, USED, BLIND, BEGINNING = range(5)


class RegionMatch:
    """What follows the output's longest suffix in the drafts, nearest to the last place first.

    Args:
        limit: Continuations at most.
        each: Continuations at most for one length of match.
        reach: A match this many tokens ahead of the expected place still counts as near.
    """

    name = "region"
    claims = ("near", "fresh", "used", "blind", "beginning")

    def __init__(self, limit: int = 12, each: int = 6, reach: int = 24) -> None:
        self.limit, self.each, self.reach = limit, each, reach
        self.start(())

    def start(self, drafts: Sequence[Draft]) -> None:
        """Index the drafts; a negative token parts them, which no output can match."""
        pieces: list[np.ndarray] = []
        starts, offset = [], 0
        for number, draft in enumerate(drafts):
            pieces += [draft.tokens, np.array([-2 - number])]
            starts.append(draft.starts + offset)
            offset += len(draft.tokens) + 1
        self._book = np.concatenate(pieces).astype(np.int64) if pieces else np.zeros(0, np.int64)
        self._starts = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        self._index = Occurrences(self._book.tolist())
        self._book[self._book < 0] = -1
        self._used = np.zeros(len(self._book) + 1, dtype=bool)
        self._place = 0  # the draft token expected next
        self._state = self._length = 0

    @property
    def match(self) -> int:
        """Length of the output's longest suffix that stands in the drafts."""
        return self._length

    def push(self, tokens: Sequence[int]) -> None:
        """Follow the output through the automaton and note what it has used."""
        if not len(self._book):
            return
        automaton = self._index.automaton
        for token in tokens:
            self._state, self._length = automaton.step(self._state, self._length, token)
        guess = self._place + len(tokens)
        if self._length >= 2:
            ends = self._index.ends(self._state) + 1
            away = ends - guess
            best = int(ends[np.abs(np.where(self._used[ends - 1], 10**6, away)).argmin()])
            if self._length >= 3 or abs(best - guess) < self.reach:
                guess = best
                self._used[max(0, best - self._length) : best] = True
        self._place = min(guess, len(self._book))

    def propose(self, depth: int) -> Candidates | None:
        """By the automaton's suffix links, then at the expected place, then at beginnings."""
        if not len(self._book):
            return None
        automaton = self._index.automaton
        state, length = self._state, self._length
        found: list[np.ndarray] = []
        matches: list[int] = []
        longer = None
        while state > 0 and len(matches) < self.limit:
            fresh = self._index.ends(state, but=longer) + 1
            room = min(self.each, self.limit - len(matches))
            if len(fresh) > room:
                fresh = fresh[np.argpartition(self._distance(fresh), room - 1)[:room]]
            if len(fresh):
                found.append(fresh)
                matches += [length] * len(fresh)
            longer, state = state, automaton.link[state]
            length = automaton.length[state] if state > 0 else 0
        starts = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        ahead = starts - self._place
        claim = np.where(
            (ahead >= -2) & (ahead < self.reach),
            NEAR,
            np.where(self._used[starts], USED, FRESH),
        )
        match = np.asarray(matches, dtype=np.int64)
        blind = np.array([self._place], dtype=np.int64)
        if (starts == self._place).any():
            blind = blind[:0]
        begin = self._starts[~self._used[self._starts]][:3]
        starts = np.concatenate([starts, blind, begin])
        claim = np.concatenate([claim, np.full(len(blind), BLIND), np.full(len(begin), BEGINNING)])
        match = np.concatenate([match, np.zeros(len(blind) + len(begin), dtype=np.int64)])
        return Candidates(follow(self._book, starts, depth), claim, match)

    def _distance(self, starts: np.ndarray) -> np.ndarray:
        """Tokens from the expected place, places behind it and used ones counted as farther."""
        away = starts - self._place
        return np.where(away < -2, 64 - 2 * away, np.abs(away)) + 256 * self._used[starts]
