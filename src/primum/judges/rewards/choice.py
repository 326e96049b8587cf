"""A reward for the right letters of a multiple-choice question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from primum.errors import UserError
from primum.judges.rewards.form import answer_text
from primum.judges.rewards.reward import Attempt

LETTERS = r"([A-J](?:\s*(?:,|;|/|、|\band\b|&|和)?\s*[A-J])*)"
STATED = [
    re.compile(rf"\\boxed\{{\s*(?:\\text\{{)?\s*\(?{LETTERS}\b"),
    re.compile(rf"(?i:\b(?:answer|option|choice)s?\b(?:\s+(?:is|are|was))?)\s*:?\s*\**\(?{LETTERS}\b(?!')"),
    re.compile(rf"(?:答案|选项?|应选)\s*(?:是|为)?\s*[::]?\s*\**\(?{LETTERS}(?![A-Za-z])"),
]  # fmt: skip
ALONE = re.compile(rf"\s*\**\(?{LETTERS}\)?\**\s*(?:[.::)、]|$|\n)")


def chosen_letters(text: str) -> frozenset[str]:
    r"""The letters an answer settles on, empty if it names none.

    Looked for in what follows the thinking: a box, then "the answer is ...", the last one said;
    then a letter that stands alone at the head.

    >>> sorted(chosen_letters("I think B, but no: the answer is (A, C)."))
    ['A', 'C']
    >>> chosen_letters("A patient should not do this.")
    frozenset()
    """
    said = answer_text(text)
    for pattern in STATED:
        found = pattern.findall(said)
        if found:
            return frozenset(re.findall(r"[A-J]", found[-1]))
    alone = ALONE.match(said)
    return frozenset(re.findall(r"[A-J]", alone[1])) if alone else frozenset()


@dataclass(frozen=True)
class MultipleChoice:
    """1 if the chosen letters are those of the row's `gold`, all of them and no other.

    `gold` is letters ("B", "AC", ["A", "C"]) or a mapping whose `value` is; a row without, or whose
    `gold` is of another type than `mcq`, is none of this reward's.
    """

    name: str = "multiple_choice"

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        return [self.one(attempt) for attempt in attempts]

    def one(self, attempt: Attempt) -> float | None:
        """The reward of one answer.

        Raises:
            UserError: The row's gold answer is not letters.
        """
        wanted = gold_letters(attempt.row.get("gold"))
        if wanted is None:
            return None
        return float(chosen_letters(attempt.answer) == wanted)


def gold_letters(gold: Any) -> frozenset[str] | None:
    """The letters of a row's gold answer, None where it has no such answer."""
    if isinstance(gold, dict):
        if gold.get("type", "mcq") != "mcq":
            return None
        gold = gold.get("value")
    if gold in (None, "", []):
        return None
    letters = "".join(gold) if isinstance(gold, list | tuple) else str(gold)
    letters = re.sub(r"[\s,;]", "", letters).upper()
    if not re.fullmatch(r"[A-J]+", letters):
        raise UserError(
            f"The gold answer of a multiple-choice row is letters, not {gold!r}",
            remedy="give the option's letter, or another `type` in `gold`",
        )
    return frozenset(letters)
