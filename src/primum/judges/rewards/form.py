"""Rewards for the form of an answer: the think/answer format, its length, no repetition."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from primum.errors import UserError
from primum.judges.rewards.reward import Attempt

FORMAT = re.compile(
    r"\s*<think>(?P<thought>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.S
)
TAGS = re.compile(r"</?(?:think|answer)>")


def answer_text(text: str) -> str:
    """What stands in the answer block; without one, what follows the thinking.

    >>> answer_text("<think>two</think><answer> four </answer>"), answer_text("<think>a</think> b")
    ('four', 'b')
    """
    block = re.search(r"<answer>(.*?)(?:</answer>|$)", text, re.S)
    if block:
        return block[1].strip()
    return text.rsplit("</think>", 1)[-1].strip()


@dataclass(frozen=True)
class ThinkAnswerFormat:
    """1 if the text is one think block, then one answer block with words in it, and nothing else.

    >>> ThinkAnswerFormat().score([Attempt("", "<think>why</think><answer>so</answer>")])
    [1.0]
    """

    name: str = "format"

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        return [float(self.holds(attempt.answer)) for attempt in attempts]

    @staticmethod
    def holds(text: str) -> bool:
        """Whether the format is kept."""
        found = FORMAT.fullmatch(text)
        if found is None or TAGS.search(found["thought"]) or TAGS.search(found["answer"]):
            return False
        return re.search(r"\w", found["answer"]) is not None


@dataclass(frozen=True)
class NotEmpty:
    """1 if the answer has a word in it: the gate of models without a think/answer format."""

    name: str = "not_empty"

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        return [float(re.search(r"\w", answer_text(one.answer)) is not None) for one in attempts]


@dataclass(frozen=True)
class Overlong:
    """The soft penalty of DAPO (Yu et al., 2025, eq. 13): 0, then down to -1 at `longest` tokens.

    Args:
        longest: Tokens at which the penalty is whole.
        margin: Tokens before that over which it grows.

    >>> Overlong(10, 4).score([Attempt("", "", tokens=n) for n in (6, 8, 10, 12)])
    [0.0, -0.5, -1.0, -1.0]
    """

    longest: int
    margin: int
    name: str = "overlong"

    def __post_init__(self) -> None:
        if not 0 < self.margin <= self.longest:
            raise UserError(
                f"An overlong penalty needs 0 < margin <= longest, not {self.margin}, "
                f"{self.longest}"
            )

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        start = self.longest - self.margin
        return [max(-1.0, min(0.0, (start - one.tokens) / self.margin)) for one in attempts]


@dataclass(frozen=True)
class Repetition:
    """Minus the share of runs of `words` words that have come before in the answer.

    >>> Repetition(2).score([Attempt("", "no no no no")])
    [-0.6666666666666667]
    """

    words: int = 4
    name: str = "repetition"

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        return [0.0 - self.share(attempt.answer) for attempt in attempts]

    def share(self, text: str) -> float:
        """Repeated runs among all."""
        # signs of scripts without spaces count as words of their own
        words = re.findall(
            r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+", text.lower()
        )
        runs = [tuple(words[at : at + self.words]) for at in range(len(words) - self.words + 1)]
        return 1 - len(set(runs)) / len(runs) if runs else 0.0
