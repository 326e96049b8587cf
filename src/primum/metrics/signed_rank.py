"""Paired differences without a normal distribution: Wilcoxon's exact test, Hodges and Lehmann."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.score import CONFIDENCE, Score

Alternative = Literal["two-sided", "greater", "less"]
DRAWS = 5_000


def wilcoxon_exact(differences: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """P-value of the signed-rank test, exact whatever ties there are (Pratt's zeros).

    Zeros take part in the ranking and are then left out (Pratt, 1959); tied sizes share their mean
    rank, and the distribution is that of all sign changes of the ranks at hand.

    >>> round(wilcoxon_exact([1, 2, 3, 4, 5]), 4), round(wilcoxon_exact([1, 1, -1, 2, 0]), 4)
    (0.0625, 0.5)
    """
    values = np.asarray(differences, dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("differences are finite numbers, one at least")
    sizes, inverse = np.unique(np.round(np.abs(values), 9), return_inverse=True)
    counts = np.bincount(inverse)
    last = np.cumsum(counts)
    doubled = (2 * last - counts + 1)[inverse]  # twice the mean rank, an integer
    nonzero = sizes[inverse] > 0
    doubled, signs = doubled[nonzero], values[nonzero] > 0
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(ways)
        shifted[rank:] = ways[: len(ways) - rank]
        ways = (ways + shifted) / 2
    seen = int(doubled[signs].sum())
    above, below = float(ways[seen:].sum()), float(ways[: seen + 1].sum())
    if alternative == "greater":
        return min(1.0, above)
    if alternative == "less":
        return min(1.0, below)
    return min(1.0, 2 * min(above, below))


def hodges_lehmann(differences: Sequence[float]) -> float:
    """The median of all pairwise means, each value with itself too.

    >>> hodges_lehmann([1, 2, 6])
    2.75
    """
    return float(_walsh_medians(np.asarray(differences, dtype=float)[None])[0])


def _walsh_medians(rows: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(rows.shape[1])
    return np.median((rows[:, first] + rows[:, second]) / 2, axis=1)


def paired_shift(
    differences: Sequence[float], name: str = "difference", *, protocol: str = "",
    higher_is_better: bool | None = None,
) -> Score:  # fmt: skip
    """Hodges and Lehmann's shift with a percentile bootstrap over the pairs (fixed seed).

    Args:
        differences: (pairs,) one number a pair, such as the mean over raters of one vignette.

    >>> print(paired_shift([0.5, 1.0, 0.0, 0.5, 1.0, 0.5]))
    0.500 [0.250, 0.750], n = 6
    """
    values = np.asarray(differences, dtype=float)
    if values.size == 0:
        return Score.unavailable(name, "no pairs", higher_is_better)
    picks = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(_walsh_medians(values[picks]), [tail, 100 - tail])
    how = (
        f"Hodges-Lehmann of {len(values)} pairs; 95 % percentile bootstrap ({DRAWS} draws); exact "
        f"Wilcoxon (Pratt) p = {wilcoxon_exact(values.tolist()):.3g}"
    )
    how = "; ".join(filter(None, [protocol, how]))
    return Score(
        name, hodges_lehmann(values.tolist()), float(low), float(high), len(values), how,
        higher_is_better,
    )  # fmt: skip


def equivalence(differences: Sequence[float], margin: float) -> float:
    """P-value of `no further apart than the margin`: two one-sided exact signed-rank tests.

    Schuirmann's TOST (1987). A test that finds no difference shows no equivalence; this one does.

    >>> round(equivalence([0.1, -0.1, 0.2, 0.0, -0.2, 0.1, 0.0, -0.1], margin=0.5), 4)
    0.0039
    >>> equivalence([0.6] * 8, margin=0.5) > 0.9
    True
    """
    if margin <= 0:
        raise ValueError("the margin is above 0")
    values = np.asarray(differences, dtype=float)
    return max(
        wilcoxon_exact((values + margin).tolist(), "greater"),
        wilcoxon_exact((values - margin).tolist(), "less"),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def detectable_effect(n: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest standardised paired difference that n pairs find with this power.

    Normal approximation with Guenther's correction (1981).

    >>> round(detectable_effect(30), 2), round(detectable_effect(30, alpha=0.05 / 8), 2)
    (0.53, 0.7)
    """
    from statistics import NormalDist

    threshold = NormalDist().inv_cdf(1 - alpha / 2)
    room = n - threshold**2 / 2
    if room <= 0:
        return float("inf")
    return (threshold + NormalDist().inv_cdf(power)) / room**0.5


class PairedShift(Metric):
    """Hodges and Lehmann's shift of differences given in batches.

    >>> import torch
    >>> metric = PairedShift()
    >>> metric.update(torch.tensor([0.5, 1.0, 0.0])); metric.update(torch.tensor([0.5, 1.0, 0.5]))
    >>> print(metric.compute())
    0.500 [0.250, 0.750], n = 6
    """

    is_differentiable = False
    full_state_update = False

    differences: list[Tensor]

    def __init__(self, name: str = "difference", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_name = name
        self.add_state("differences", default=[], dist_reduce_fx="cat")

    def update(self, differences: Tensor) -> None:
        """Remember a batch (n,)."""
        self.differences.append(differences.double())

    def compute(self) -> Score:
        """The shift so far."""
        if len(self.differences) == 0:
            return paired_shift([], self.score_name)
        return paired_shift(dim_zero_cat(self.differences).tolist(), self.score_name)
