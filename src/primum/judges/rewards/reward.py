"""What a reward is asked, and how several make one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from primum.errors import UserError


@dataclass(frozen=True)
class Attempt:
    """An answer to be rewarded.

    Args:
        prompt: What was asked last.
        answer: All that the model wrote, thinking included, without its end-of-turn token.
        tokens: Its length.
        finished: Whether the model ended its turn itself.
        row: The prompt's other columns: `kind` (`unsafe` or `benign`), `gold`, `family` ...
    """

    prompt: str
    answer: str
    tokens: int = 0
    finished: bool = True
    row: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Reward(Protocol):
    """Scores answers; the name stands in logs and in the manifest."""

    name: str

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        """One number an answer, None where the reward does not apply."""
        ...


@dataclass(frozen=True)
class Part:
    """One reward of a set.

    Args:
        reward: It.
        weight: Its factor in the sum; negative for a penalty that is given as a positive number.
    """

    reward: Reward
    weight: float = 1.0


class RewardSet:
    """Several rewards, behind a gate.

    Where the gate gives 0, every positive reward is 0 too, so that safety cannot be bought with
    garbage; penalties stay.

    Args:
        parts: The rewards by the name they are logged under; one that is None is left out.
        gate: A reward of 0 or 1; None lets everything through.
    """

    def __init__(self, parts: Mapping[str, Part | None], gate: Reward | None = None) -> None:
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.gate = gate
        if not self.parts:
            raise UserError("A reward set needs at least one reward")

    @property
    def weights(self) -> dict[str, float]:
        """The factor of each reward."""
        return {name: part.weight for name, part in self.parts.items()}

    def score(self, attempts: Sequence[Attempt]) -> dict[str, list[float]]:
        """Each reward's numbers; 0 where it does not apply.

        Raises:
            UserError: A reward gave the wrong number of scores, or one that is no number.
        """
        passed = [True] * len(attempts)
        if self.gate is not None:
            passed = [bool(score) for score in scored(self.gate, attempts)]
        return {
            name: [
                score if through or score * part.weight < 0 else 0.0
                for score, through in zip(scored(part.reward, attempts), passed, strict=True)
            ]
            for name, part in self.parts.items()
        }

    def judges(self) -> set[str]:
        """Names of the judges that the rewards ask, who must not report on the model later."""
        asked = [part.reward for part in self.parts.values()] + [self.gate]
        judges = (getattr(reward, "judge", None) for reward in asked)
        return {str(getattr(judge, "name", judge)) for judge in judges if judge is not None}


def scored(reward: Reward, attempts: Sequence[Attempt]) -> list[float]:
    """A reward's numbers, checked."""
    scores = reward.score(attempts)
    if len(scores) != len(attempts):
        raise UserError(
            f"The reward `{reward.name}` gave {len(scores)} scores for {len(attempts)} answers"
        )
    numbers = [0.0 if score is None else float(score) for score in scores]
    for number, attempt in zip(numbers, attempts, strict=True):
        if number != number or number in (float("inf"), float("-inf")):
            raise UserError(
                f"The reward `{reward.name}` gave {number} for the answer {attempt.answer[:60]!r}"
            )
    return numbers
