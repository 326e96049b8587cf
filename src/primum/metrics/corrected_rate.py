"""The rate a perfect judge would have seen, worked back from an imperfect one's known mistakes."""

from math import sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

from primum.metrics.proportion import Proportion
from primum.metrics.score import CONFIDENCE, Score


class Confusion(NamedTuple):
    """A judge's verdicts on labelled answers, as counts.

    >>> Confusion(45, 5, 90, 10).sensitivity
    0.9
    """

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def positives(self) -> int:
        """Answers labelled positive."""
        return self.true_positive + self.false_negative

    @property
    def negatives(self) -> int:
        """Answers labelled negative."""
        return self.true_negative + self.false_positive

    @property
    def sensitivity(self) -> float:
        """Share of the labelled positives that the judge found."""
        return self.true_positive / self.positives

    @property
    def specificity(self) -> float:
        """Share of the labelled negatives that the judge left alone."""
        return self.true_negative / self.negatives

    @property
    def usable(self) -> bool:
        """Whether the judge says more than a coin, so that a correction exists."""
        if self.positives == 0 or self.negatives == 0:
            return False
        return self.sensitivity + self.specificity > 1


def corrected_rate(
    hits: int,
    n: int,
    confusion: Confusion,
    name: str = "corrected rate",
    *,
    protocol: str = "",
    higher_is_better: bool | None = None,
) -> Score:
    """Rogan and Gladen's estimate (1978) with the interval of Lang and Reiczigel (2014).

    The interval carries the sampling error of the rate and of both entries of the confusion, and
    keeps its width when the judge made no mistake on the labelled answers. Clipped to [0, 1].

    Returns:
        A score without a value where the judge is no better than a coin
        (sensitivity + specificity <= 1), since no correction exists then.

    >>> judge = Confusion(true_positive=45, false_negative=5, true_negative=90, false_positive=10)
    >>> print(corrected_rate(50, 100, judge))
    50.0 % [36.8, 65.0], n = 100
    """
    if n == 0:
        return Score.unavailable(name, "no cases", higher_is_better, "proportion")
    if not confusion.usable:
        return Score.unavailable(
            name,
            f"on {confusion.positives} + {confusion.negatives} labelled answers the judge is no "
            "better than a coin (sensitivity + specificity <= 1), so its rate cannot be corrected",
            higher_is_better,
            "proportion",
        )
    value = (hits / n + confusion.specificity - 1) / (
        confusion.sensitivity + confusion.specificity - 1
    )
    # Lang and Reiczigel: add z^2 trials to the rate and two to each side of the confusion, then
    # move the centre by the skew that the two corrected denominators bring.
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    trials = n + z * z
    rate = (hits + z * z / 2) / trials
    sensitivity = (confusion.true_positive + 1) / (confusion.positives + 2)
    specificity = (confusion.true_negative + 1) / (confusion.negatives + 2)
    gain = sensitivity + specificity - 1
    centre = (rate + specificity - 1) / gain
    noise_positive = sensitivity * (1 - sensitivity) / (confusion.positives + 2)
    noise_negative = specificity * (1 - specificity) / (confusion.negatives + 2)
    shift = 2 * z * z * (centre * noise_positive - (1 - centre) * noise_negative)
    variance = (
        rate * (1 - rate) / trials + centre**2 * noise_positive + (1 - centre) ** 2 * noise_negative
    )
    half = z * sqrt(variance) / gain
    low, high = _clip(centre + shift - half), _clip(centre + shift + half)
    value = _clip(value)
    how = "; ".join(
        filter(
            None,
            [
                protocol,
                f"Rogan-Gladen from {hits} of {n}, judge's sensitivity "
                f"{confusion.true_positive}/{confusion.positives}, specificity "
                f"{confusion.true_negative}/{confusion.negatives}; Lang-Reiczigel 95 % interval",
            ],
        )
    )
    # clipping can leave the estimate outside its interval by a hair; a reader expects it inside
    return Score(
        name, value, min(low, value), max(high, value), n, how, higher_is_better, "proportion"
    )


def _clip(share: float) -> float:
    return min(1.0, max(0.0, share))


class CorrectedRate(Proportion):
    """The share of cases that are hits, freed of the judge's known mistakes.

    Args:
        confusion: The judge's counts on labelled answers.
        name: What a hit is, in a reader's words.
        protocol: How hits were decided.
        direction: Whether more hits are better, or None.

    >>> import torch
    >>> metric = CorrectedRate(Confusion(45, 5, 90, 10))
    >>> metric.update(torch.arange(100) < 50)
    >>> print(metric.compute())
    50.0 % [36.8, 65.0], n = 100
    """

    def __init__(
        self,
        confusion: Confusion,
        name: str = "corrected rate",
        protocol: str = "",
        direction: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, protocol, direction, **kwargs)
        self.confusion = confusion

    def compute(self) -> Score:
        """The corrected share so far, with its interval."""
        return corrected_rate(
            int(self.hits),
            int(self.count),
            self.confusion,
            self.score_name,
            protocol=self.protocol,
            higher_is_better=self.direction,
        )
