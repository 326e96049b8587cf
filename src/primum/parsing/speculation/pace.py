"""Whether drafting pays, by the clock; where it does not, it stops and looks again now and then."""

FADE = 0.9  # of a step in what is remembered at the next
MARGIN = 1.1  # times as many tokens a second: less is the luck of a few steps
FIRST = 6  # steps of a page before drafting is judged
SHORTEST, LONGEST = 8, 64  # steps of a pause; one drafted step lies between two
WAKES = 12  # tokens of context found in the evidence: what follows them there is worth a step


class Pace:
    """Compares tokens a second of drafted steps, proposing included, with plain steps.

    Beside a quick model even drafts that are right now and then cost more than they bring, and what
    a plain step takes is only known by taking some: during a pause it is measured.

    Args:
        plain: Seconds of a plain step, until one was taken; 0 where nobody knows: never pause.
    """

    def __init__(self, plain: float = 0.0) -> None:
        self.plain = plain
        self._taken = False
        self.begin()

    def begin(self) -> None:
        """A new page, with new drafts."""
        self._tokens = self._seconds = 0.0
        self._left, self._pause, self._length = FIRST, 0, SHORTEST

    def over(self, match: int = 0) -> bool:
        """Whether this step is drafted, `match` tokens of context behind the best evidence."""
        return self._pause == 0 or match >= WAKES

    def learn(self, tokens: int, seconds: float, drafted: bool) -> None:
        """A step gave so many tokens in so many seconds, all counted."""
        if self.plain <= 0 or seconds <= 0:
            return
        if not drafted:
            self._pause -= 1
            self.plain = FADE * self.plain + (1 - FADE) * seconds if self._taken else seconds
            self._taken = True
            return
        self._tokens = FADE * self._tokens + tokens
        self._seconds = FADE * self._seconds + seconds
        if self._tokens * self.plain >= MARGIN * self._seconds:
            self._left, self._pause, self._length = self._left - 1, 0, SHORTEST
            return
        self._left -= 1
        if not self._pause and self._left <= 0:
            self._pause, self._length = self._length, min(2 * self._length, LONGEST)
