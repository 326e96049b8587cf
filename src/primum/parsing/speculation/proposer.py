"""What every proposer does: read the page's drafts, watch the output, propose continuations."""

from collections.abc import Sequence
from typing import Protocol

from primum.parsing.speculation.candidates import Candidates
from primum.parsing.speculation.draft import Draft


class Proposer(Protocol):
    """A source of continuations. One object serves page after page."""

    @property
    def name(self) -> str:
        """Shown in traces and reports."""

    @property
    def claims(self) -> tuple[str, ...]:
        """The kinds of evidence it tells apart; beliefs are kept for each."""

    @property
    def match(self) -> int:
        """The last so many tokens of the output stand in its evidence; 0 if it does not know."""

    def start(self, drafts: Sequence[Draft]) -> None:
        """Forget the last page and read this one's drafts."""

    def push(self, tokens: Sequence[int]) -> None:
        """Tokens were decoded; never empty."""

    def propose(self, depth: int) -> Candidates | None:
        """Continuations of at most `depth` tokens from here on, or None."""
