"""What a model must do to sit a benchmark, and what its answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from primum.benchmarks.cases import Case


@dataclass(frozen=True)
class Settings:
    """How answers are generated; part of every result's key."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    batch_size: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What a candidate said to one case."""

    text: Any
    finish: str | None = None
    seconds: float | None = None
    tokens: int | None = None


class Likelihood(NamedTuple):
    """Log-probability in nats of a reference answer, and over how many tokens."""

    sum_logprob: float
    num_tokens: int


@runtime_checkable
class TextSubject(Protocol):
    """What a model must do to sit a benchmark.

    An answer may come bare: a string, or the mapping that an image benchmark reads.
    """

    def answer(self, cases: Sequence[Case], settings: Settings) -> Sequence[Any]:
        """One answer a case, in order."""
        ...


@runtime_checkable
class ScoringSubject(Protocol):
    """What a model may do besides: say how likely the references are to it."""

    def score(self, cases: Sequence[Case]) -> Sequence[Likelihood]:
        """The likelihood of each case's reference text, in order."""
        ...
