"""When a proposer pauses: what is of no use must cost next to nothing."""

CREDIT = 8  # steps without use that one supplied token makes up for
LONGEST = 16  # steps of a pause
WAKES = 4  # tokens of context found in the evidence: too many for chance


class Rest:
    """Counts a proposer's steps without use; past `patience` it pauses, twice as long each time.

    Args:
        patience: Steps without use before the first pause.
    """

    def __init__(self, patience: float = 12) -> None:
        self.patience = patience
        self.begin()

    def begin(self) -> None:
        """A new page, with new drafts."""
        self._useless: float = 0
        self._pause = 0

    def over(self, match: int = 0) -> bool:
        """Whether the proposer, `match` tokens of context behind it, is asked at this step."""
        if self._pause and match < WAKES:
            self._pause -= 1
            return False
        return True

    def learn(self, supplied: int) -> None:
        """It was asked, and so many tokens that it proposed were accepted."""
        self._useless = max(0, self._useless - CREDIT * supplied) if supplied else self._useless + 1
        tried = self._useless - self.patience
        if tried >= 0:
            self._pause = int(min(LONGEST, 2**tried))
            self._useless = min(self._useless, self.patience + LONGEST.bit_length() - 1)
