"""A suffix automaton that grows token by token: the longest repeated suffix, at once.

After Blumer et al., "The smallest automaton recognizing the subwords of a text" (1985). States
stand for sets of substrings with the same end positions; `link` leads to the longest suffix that
occurs elsewhere too. Amortised O(1) dictionary operations a token.
"""

from collections.abc import Iterable, Iterator

import numpy as np

LEVELS = 24  # suffix links followed a token: bounds the work on runs of one token
RECENT = 4  # end positions kept a state


class SuffixAutomaton:
    """All substrings of a growing sequence.

    Args:
        tokens: What it starts with.

    >>> automaton = SuffixAutomaton([5, 6, 7, 5, 6])
    >>> list(automaton.repeats())  # `5 6` was seen before, ending at position 1
    [(2, [1])]
    """

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.next: list[dict[int, int]] = [{}]
        self.link: list[int] = [-1]
        self.length: list[int] = [0]
        self.recent: list[list[int]] = [[]]  # latest end positions, oldest first
        self.whole = 0  # the state of the sequence itself
        self.size = 0
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """Append one token."""
        position, state = self.size, self.whole
        new = self._state({}, self.length[state] + 1, [])
        while state >= 0 and token not in self.next[state]:
            self.next[state][token] = new
            state = self.link[state]
        self.link[new] = 0 if state < 0 else self._ending(state, token)
        self.whole, self.size = new, position + 1
        level = new
        for _ in range(LEVELS):
            if level <= 0:
                break
            ends = self.recent[level]
            ends.append(position)
            if len(ends) > RECENT:
                del ends[0]
            level = self.link[level]

    def _state(self, following: dict[int, int], length: int, recent: list[int]) -> int:
        self.next.append(following)
        self.link.append(0)
        self.length.append(length)
        self.recent.append(recent)
        return len(self.next) - 1

    def _ending(self, state: int, token: int) -> int:
        """The state of exactly `state` + `token`, split off a longer one where need be."""
        longer = self.next[state][token]
        if self.length[longer] == self.length[state] + 1:
            return longer
        split = self._state(
            dict(self.next[longer]), self.length[state] + 1, list(self.recent[longer])
        )
        self.link[split], self.link[longer] = self.link[longer], split
        while state >= 0 and self.next[state].get(token) == longer:
            self.next[state][token] = split
            state = self.link[state]
        return split

    def step(self, state: int, length: int, token: int) -> tuple[int, int]:
        """Follow another sequence's next token.

        Returns:
            The state and length of the longest suffix of that sequence which occurs in this one.
        """
        while state > 0 and token not in self.next[state]:
            state = self.link[state]
            length = self.length[state]
        following = self.next[state].get(token)
        return (0, 0) if following is None else (following, length + 1)

    @property
    def repeated(self) -> int:
        """Length of the longest suffix that occurred before."""
        return max(0, self.length[self.link[self.whole]])

    def repeats(self) -> Iterator[tuple[int, list[int]]]:
        """Suffixes that occurred before: (length, their earlier end positions), longest first."""
        state = self.link[self.whole]
        for _ in range(LEVELS):
            if state <= 0:
                return
            yield self.length[state], [end for end in self.recent[state] if end < self.size - 1]
            state = self.link[state]


class Occurrences:
    """Every end position of every state of a finished automaton, as slices of one array.

    The suffix links form a tree; in the order of a walk through it, the end positions below a state
    lie side by side.

    Args:
        tokens: The sequence.
    """

    def __init__(self, tokens: Iterable[int]) -> None:
        self.automaton = automaton = SuffixAutomaton()
        ends = [-1]
        for token in tokens:
            before = len(automaton.next)
            automaton.push(token)
            ends += [automaton.size - 1, *[-1] * (len(automaton.next) - before - 1)]
        count = len(automaton.next)
        children: list[list[int]] = [[] for _ in range(count)]
        for state in range(1, count):
            children[automaton.link[state]].append(state)
        self._low, self._high = [0] * count, [0] * count
        positions: list[int] = []
        walk = [0]
        while walk:
            state = walk.pop()
            if state < 0:
                self._high[~state] = len(positions)
                continue
            self._low[state] = len(positions)
            if ends[state] >= 0:
                positions.append(ends[state])
            walk.append(~state)
            walk.extend(children[state])
        self._positions = np.asarray(positions, dtype=np.int64)

    def ends(self, state: int, but: int | None = None) -> np.ndarray:
        """Where the substrings of a state end (n,), in no order.

        Args:
            but: A state below, whose ends are left out.
        """
        low, high = self._low[state], self._high[state]
        if but is None:
            return self._positions[low:high]
        inner, outer = self._low[but], self._high[but]
        return np.concatenate([self._positions[low:inner], self._positions[outer:high]])
