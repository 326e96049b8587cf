"""How much each row and each token of it counts: by clinicians' rubric scores and edits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from primum.errors import UserError
from primum.language.chat import Encoded
from primum.language.formats import Conversation


class Weighting(Protocol):
    """Weights of the tokens of an encoded conversation; only those of learned tokens matter."""

    def weights(self, encoded: Encoded, conversation: Conversation) -> list[float]:
        """One weight a token."""
        ...


@dataclass(frozen=True)
class Rubric:
    """A row weighs what clinicians thought of it: ((mean - 1) / 4) ** gamma, at least `floor`.

    Reads the column `rubric`: the mean of the criteria from 1 to 5, or a mapping of criterion to
    score with null where there is none. A row whose column `veto` is true weighs 0. A row without
    scores weighs `unscored`.
    """

    gamma: float = 1.0
    floor: float = 0.1
    unscored: float = 1.0

    def weights(self, encoded: Encoded, conversation: Conversation) -> list[float]:
        """The same weight for every token.

        >>> talk = Conversation("a", (), None, "f", 1, {"rubric": {"utility": 5, "reasoning": 3}})
        >>> Rubric().weights(Encoded([1, 2], [False, True]), talk)
        [0.75, 0.75]
        """
        return [self.weight(conversation)] * len(encoded.input_ids)

    def weight(self, conversation: Conversation) -> float:
        """The weight of one row.

        Raises:
            UserError: Its score is no number from 1 to 5.
        """
        if conversation.extra.get("veto") in (True, "true", "True", 1):
            return 0.0
        mean = rubric_mean(conversation.extra.get("rubric"), conversation)
        if mean is None:
            return self.unscored
        return float(min(1.0, max(self.floor, ((mean - 1) / 4) ** self.gamma)))


def rubric_mean(rubric: Any, conversation: Conversation) -> float | None:
    """The mean of a row's rubric scores, None where there is none."""
    scores = list(rubric.values()) if isinstance(rubric, Mapping) else [rubric]
    try:
        given = [float(score) for score in scores if score is not None and score != ""]
    except (TypeError, ValueError):
        given = [0.0]
    if any(not 1 <= score <= 5 for score in given):
        raise UserError(
            f"A rubric score is a number from 1 to 5, and this row has {rubric!r}",
            file=conversation.file,
            row=conversation.row,
        )
    return sum(given) / len(given) if given else None


@dataclass(frozen=True)
class Edits:
    """Tokens that a clinician's edit brought in weigh 1 + `extra`.

    Reads the column `edited`: where they lie in the last answer, as [start, end] in characters.
    """

    extra: float = 1.0

    def weights_of(
        self, encoded: Encoded, conversation: Conversation, tokenizer: Any
    ) -> list[float]:
        """One weight a token; a token counts as edited if any character of it is.

        Raises:
            UserError: A span does not lie in the answer.
        """
        weights = [1.0] * len(encoded.input_ids)
        spans = conversation.extra.get("edited") or []
        if not spans:
            return weights
        answer = conversation.messages[-1]["content"].strip()
        shift = len(conversation.messages[-1]["content"]) - len(
            conversation.messages[-1]["content"].lstrip()
        )
        places = [place for place, learned in enumerate(encoded.loss_mask) if learned]
        ids = [encoded.input_ids[place] for place in places]
        ends = [
            len(tokenizer.decode(ids[: n + 1], clean_up_tokenization_spaces=False))
            for n in range(len(ids))
        ]
        begin = tokenizer.decode(ids, clean_up_tokenization_spaces=False).rfind(answer)
        for start, end in spans:
            if begin < 0 or not shift <= start <= end <= shift + len(answer):
                raise UserError(
                    f"The edit [{start}, {end}] does not lie in the answer",
                    file=conversation.file,
                    row=conversation.row,
                    remedy="correct the column `edited`, or leave it out",
                )
            first, last = begin + start - shift, begin + end - shift
            for number, place in enumerate(places):
                if ends[number] > first and (ends[number - 1] if number else 0) < last:
                    weights[place] = 1.0 + self.extra
        return weights


class Weightings:
    """Several weightings, and the column `weight` of a row, multiplied; 0 off learned tokens."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)

    def weights(self, encoded: Encoded, conversation: Conversation, tokenizer: Any) -> list[float]:
        """One weight a token.

        Raises:
            UserError: The row's weight is not a number of at least 0.
        """
        row = row_number(conversation, "weight", 1.0)
        if row < 0:
            raise UserError(
                f"A row weighs at least 0, not {row}", file=conversation.file, row=conversation.row
            )
        product = [row * learned for learned in encoded.loss_mask]
        for part in self.parts:
            given = (
                part.weights_of(encoded, conversation, tokenizer)
                if isinstance(part, Edits)
                else part.weights(encoded, conversation)
            )
            product = [one * other for one, other in zip(product, given, strict=True)]
        return product


def row_number(conversation: Conversation, column: str, default: float) -> float:
    """A row's finite number in some column.

    Raises:
        UserError: It is something else.
    """
    value = conversation.extra.get(column)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"`{column}` is a number, not {value!r}", file=conversation.file, row=conversation.row
        )
    return number
