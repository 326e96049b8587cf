"""A share of n cases, with the interval that stays honest near 0 and 1."""

from math import sqrt
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from primum.metrics.score import CONFIDENCE, Score


def wilson_interval(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, 1927).

    Raises:
        ValueError: No cases, or more hits than cases.

    >>> low, high = wilson_interval(8, 10)
    >>> print(f"{low:.4f} {high:.4f}")
    0.4902 0.9433
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"{hits} of {n} is no proportion")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = hits / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z * sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    # at 0 and n the bound is exactly 0 or 1; rounding must not move it
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)


def proportion(
    hits: int,
    n: int,
    name: str = "proportion",
    *,
    protocol: str = "",
    higher_is_better: bool | None = None,
) -> Score:
    """`hits` of `n` as a score with its Wilson interval.

    >>> print(proportion(8, 10))
    80.0 % [49.0, 94.3], n = 10
    """
    if n == 0:
        return Score.unavailable(name, "no cases", higher_is_better, "proportion")
    how = "; ".join(filter(None, [protocol, f"{hits} of {n}, Wilson 95 % interval"]))
    low, high = wilson_interval(hits, n)
    return Score(name, hits / n, low, high, n, how, higher_is_better, "proportion")


class Proportion(Metric):
    """The share of cases that are hits.

    Args:
        name: What a hit is, in a reader's words.
        protocol: How hits were decided.
        direction: Whether more hits are better, or None.

    >>> metric = Proportion("refused")
    >>> metric.update(torch.tensor([True, True, False]))
    >>> print(metric.compute())
    66.7 % [20.8, 93.9], n = 3
    """

    is_differentiable = False
    full_state_update = False

    hits: Tensor
    count: Tensor

    def __init__(
        self,
        name: str = "proportion",
        protocol: str = "",
        direction: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.score_name, self.protocol, self.direction = name, protocol, direction
        self.add_state("hits", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, hit: Tensor) -> None:
        """Count a batch: `hit` is boolean, of any shape."""
        self.hits += hit.bool().sum()
        self.count += hit.numel()

    def compute(self) -> Score:
        """The share so far, with its interval."""
        return proportion(
            int(self.hits),
            int(self.count),
            self.score_name,
            protocol=self.protocol,
            higher_is_better=self.direction,
        )
