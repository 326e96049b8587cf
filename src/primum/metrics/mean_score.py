"""The mean of scores on a bounded scale; one beyond the scale is refused, never averaged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.proportion import wilson_interval
from primum.metrics.score import CONFIDENCE, Score

DRAWS = 10_000


def mean_score(
    values: Sequence[float],
    name: str = "mean",
    *,
    lowest: float,
    highest: float,
    protocol: str = "",
    higher_is_better: bool | None = None,
    unit: str = "",
) -> Score:
    """Mean with a percentile bootstrap over cases (fixed seed).

    Where all values are equal, so that every draw is the same, the ends leave room for a value not
    yet seen in n cases (Wilson).

    Raises:
        ValueError: A value is not on the scale.

    >>> print(mean_score([1, 1, 1, 2, 5], lowest=1, highest=5))
    2.000 [1.000, 3.600], n = 5
    """
    row = np.asarray(values, dtype=float)
    if row.size == 0:
        return Score.unavailable(name, "no cases", higher_is_better, unit)
    if not ((row >= lowest) & (row <= highest)).all():
        raise ValueError(f"a score beyond the scale from {lowest:g} to {highest:g}")
    picks = np.random.default_rng(0).integers(len(row), size=(DRAWS, len(row)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = (float(end) for end in np.percentile(row[picks].mean(1), [tail, 100 - tail]))
    value = float(row.mean())
    if low == high:
        room = wilson_interval(0, len(row))[1]
        low, high = value - room * (value - lowest), value + room * (highest - value)
    how = f"mean of {len(row)}; 95 % percentile bootstrap over cases ({DRAWS} draws)"
    how = "; ".join(filter(None, [protocol, how]))
    return Score(name, value, low, high, len(row), how, higher_is_better, unit)


class MeanScore(Metric):
    """The mean of scores given in batches.

    >>> import torch
    >>> metric = MeanScore(lowest=1, highest=5)
    >>> metric.update(torch.tensor([1.0, 3.0]))
    >>> metric.compute().value
    2.0
    """

    is_differentiable = False
    full_state_update = False

    values: list[Tensor]

    def __init__(self, *, lowest: float, highest: float, name: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lowest, self.highest, self.score_name = lowest, highest, name
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, values: Tensor) -> None:
        """Remember a batch (n,)."""
        self.values.append(values.double())

    def compute(self) -> Score:
        """The mean so far."""
        given = dim_zero_cat(self.values).tolist() if len(self.values) else []
        return mean_score(given, self.score_name, lowest=self.lowest, highest=self.highest)
