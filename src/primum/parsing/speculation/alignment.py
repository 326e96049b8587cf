"""Where in the drafts are we, letter by letter: survives other spaces, marks and misreadings.

Only letters and digits are compared. The rest of the draft from the place found is encoded afresh,
so that a token that straddles a misreading does not cost the ones behind it.
"""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from primum.parsing.speculation.automaton import Occurrences
from primum.parsing.speculation.candidates import NOTHING, Candidates
from primum.parsing.speculation.draft import Draft, Encode

ALIGNED, DRIFTED = range(2)
Decode = Callable[[Sequence[int]], str]


class Alignment:
    """The draft's text from where the output's last letters stand in it.

    Args:
        encode: Text to the target's tokens, no special ones.
        decode: Tokens to text.
        tail: Tokens of the output that are compared.
        least: Letters in a row that count as a match.
        limit: Places followed at most.
    """

    name = "alignment"
    claims = ("aligned", "drifted")
    match = 0  # known only once it is asked

    def __init__(
        self, encode: Encode, decode: Decode, tail: int = 16, least: int = 3, limit: int = 3
    ) -> None:
        self.encode, self.decode = encode, decode
        self.tail, self.least, self.limit = tail, least, limit
        self.start(())

    def start(self, drafts: Sequence[Draft]) -> None:
        """Index the letters of the drafts."""
        self._text = "\0".join(draft.text for draft in drafts)
        letters, places = [], []
        for place, character in enumerate(self._text):
            if character == "\0":
                letters.append(-1)
                places.append(place)
            for letter in folded(character):
                letters.append(ord(letter))
                places.append(place)
        self._places = np.asarray([*places, len(self._text)], dtype=np.int64)
        self._index = Occurrences(letters)
        self._output: list[int] = []
        self._place = 0  # the draft letter expected next
        self._encoded: dict[int, list[int]] = {}

    def push(self, tokens: Sequence[int]) -> None:
        """Remember the output's tail."""
        self._output = [*self._output, *tokens][-self.tail :]

    def propose(self, depth: int) -> Candidates | None:
        """Encode the drafts from the best places on."""
        if not self._text:
            return None
        found = self._find()
        rows, claims, matches = [], [], []
        for start, claim, match in found:
            if start not in self._encoded:
                piece = self._text[start : start + 4 * depth].partition("\0")[0]
                self._encoded[start] = list(self.encode(piece))[:depth]
            row = self._encoded[start][:depth]
            rows.append(row + [NOTHING] * (depth - len(row)))
            claims.append(claim)
            matches.append(match)
        if not rows:
            return None
        return Candidates(np.asarray(rows, dtype=np.int64), np.asarray(claims), np.asarray(matches))

    def _find(self) -> list[tuple[int, int, int]]:
        """Places in the text to go on from: (place, claim, letters matched)."""
        automaton = self._index.automaton
        tail = self.decode(self._output)
        letters = folded(tail)
        state = length = 0
        trail = [(0, 0)]
        for letter in letters:
            state, length = automaton.step(state, length, ord(letter))
            trail.append((state, length))
        ended = bool(letters) and tail[-1:].isalnum()  # the output stands right behind a letter
        result: list[tuple[int, int, int]] = []
        for behind, (state, length) in enumerate(reversed(trail)):
            if length < self.least:
                continue
            ends = self._index.ends(state) + 1 + behind
            away = np.abs(ends - self._place)
            order = np.argsort(away, kind="stable")[: self.limit]
            for end in ends[order].tolist():
                if end > len(self._places) - 1:
                    continue
                # Behind a letter the draft's marks come next; behind a mark they were written.
                start = int(self._places[end - 1]) + 1 if ended else int(self._places[end])
                result.append((start, DRIFTED if behind else ALIGNED, length))
            self._place = int(ends[order[0]])
            break
        return result


def folded(text: str) -> str:
    """Letters and digits only, widths and cases made equal.

    >>> folded("Ａ—b, 3 页")
    'ab3页'
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
