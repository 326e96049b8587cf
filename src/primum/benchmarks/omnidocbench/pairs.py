"""A block beside what the prediction has for it: what every score of a page is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primum.benchmarks.omnidocbench.annotations import FORMULA
from primum.benchmarks.omnidocbench.lines import Guess, Truth


@dataclass(frozen=True)
class Pair:
    """Some blocks and the pieces of the prediction they were matched to.

    Attributes:
        category: The blocks' kind, the most frequent if they differ.
        truth, guess: Normalised strings; `guess` is empty where nothing was found.
        raw_truth, raw_guess: As annotated and as predicted.
        orders: The blocks' places in the reading order, where they have one.
        place: Where the prediction has it; None where nothing was found.
        as_formula: Whether the prediction wrote it as a formula.
        attributes: Of each block.
    """

    category: str
    truth: str
    guess: str
    raw_truth: str
    raw_guess: str
    orders: tuple[float, ...]
    place: int | None
    as_formula: bool
    attributes: tuple[Mapping[str, Any], ...]


def paired(truths: Sequence[Truth], guesses: Sequence[Guess], *, version: str = "1.5") -> Pair:
    """A pair of at least one block and any number of pieces."""
    first = guesses[0].element if guesses else None
    category = Counter(truth.category for truth in truths).most_common(1)[0][0]
    as_formula = first is not None and first.kind == "formula"
    stacked = version != "1.0"
    return Pair(
        category=category,
        truth="".join(truth.normal for truth in truths),
        guess="".join(guess.normal for guess in guesses),
        raw_truth=joined([t.raw for t in truths], stacked and category == FORMULA),
        raw_guess=joined([g.raw for g in guesses], stacked and as_formula),
        orders=tuple(truth.block.order for truth in truths if truth.block.order),
        place=None if first is None else first.start,
        as_formula=as_formula,
        attributes=tuple(truth.block.attributes for truth in truths),
    )


def joined(raw: Sequence[str], stacked: bool) -> str:
    """Several texts as one; several formulas as the lines of an array."""
    if stacked and len(raw) > 1:
        lines = r" \\ ".join("{" + one.strip("$").strip("\n") + "}" for one in raw)
        return r"\begin{array}{l} " + lines + r" \end{array}"
    return "".join(raw)
