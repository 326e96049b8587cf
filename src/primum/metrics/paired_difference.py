"""Did the same prompts fare better? A difference of two rates, paired, clustered, over seeds."""

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.corrected_rate import Confusion
from primum.metrics.proportion import wilson_interval
from primum.metrics.score import CONFIDENCE, Score

DRAWS = 10_000


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact p-value that gains and losses are equally likely (McNemar, 1947).

    >>> mcnemar_exact(gained=8, lost=1)
    0.0390625
    """
    changed = gained + lost
    tail = sum(comb(changed, k) for k in range(min(gained, lost) + 1)) / 2**changed
    return min(1.0, 2 * tail)


def paired_difference(
    before: Sequence[Sequence[bool]],
    after: Sequence[Sequence[bool]],
    clusters: Sequence[str | int],
    name: str = "difference",
    *,
    confusion: Confusion | None = None,
    higher_is_better: bool | None = None,
    protocol: str = "",
) -> Score:
    """After minus before, as the mean over prompts and seeds.

    The interval is a percentile bootstrap with a fixed seed that draws whole clusters of prompts
    (prompts of one family rise and fall together) and, where a side has several seeds, seeds as
    well. With `confusion` both sides are corrected as by `corrected_rate`, and every draw takes its
    own confusion from the Jeffreys posterior of the counts. Where all prompts moved alike, so that
    every draw is the same, the ends are Wilson's for an event not yet seen in n prompts.

    Args:
        before: (seeds, prompts) hits of the first side.
        after: (seeds, prompts) hits of the second side, the same prompts in the same order.
        clusters: (prompts,) the cluster of each prompt.
        name: What was measured.
        confusion: The judge's counts on labelled answers.
        higher_is_better: Whether a rise is good news.
        protocol: How hits were decided.

    Raises:
        ValueError: The sides are not of the same prompts, or the judge is no better than a coin.

    >>> before = [[False] * 20]
    >>> after = [[True] * 15 + [False] * 5]
    >>> print(paired_difference(before, after, range(20)))
    75.0 points [55.0, 90.0], n = 20
    """
    first, second = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"sides of shape {first.shape} and {second.shape} are not paired")
    if len(clusters) != first.shape[1]:
        raise ValueError(f"{len(clusters)} clusters for {first.shape[1]} prompts")
    if first.size == 0 or second.size == 0:
        return Score.unavailable(name, "no cases", higher_is_better, "points")
    if confusion is not None and not confusion.usable:
        raise ValueError("the judge is no better than a coin, so nothing can be corrected")

    labels, index = np.unique(np.asarray([str(label) for label in clusters]), return_inverse=True)
    draw = np.random.default_rng(0)
    sizes = np.bincount(index).astype(float)
    weights = draw.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=DRAWS)
    per_draw = weights @ sizes  # prompts in each draw

    def rates(side: np.ndarray) -> np.ndarray:
        seeds = len(side)
        sums = np.stack([np.bincount(index, weights=row) for row in side])  # (seeds, clusters)
        counts = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) / seeds
        return np.einsum("dc,ds,sc->d", weights, counts, sums, optimize=True) / per_draw

    ends = np.array([first.mean(), second.mean()])
    draws = np.stack([rates(first), rates(second)], 1)  # (draws, before and after)
    gain = 1.0
    if confusion is not None:
        gain = confusion.sensitivity + confusion.specificity - 1
        ends = np.clip((ends + confusion.specificity - 1) / gain, 0, 1)
        found = draw.beta(confusion.true_positive + 0.5, confusion.false_negative + 0.5, DRAWS)
        left = draw.beta(confusion.true_negative + 0.5, confusion.false_positive + 0.5, DRAWS)
        seen = np.maximum(found + left - 1, 1e-6)
        draws = np.clip((draws + left[:, None] - 1) / seen[:, None], 0, 1)
    value = float(ends[1] - ends[0])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws[:, 1] - draws[:, 0], [tail, 100 - tail])
    if low == high:  # every prompt moved alike: n such prompts still leave room for others
        margin = wilson_interval(0, first.shape[1])[1] / gain
        low, high = max(-1.0, value - margin), min(1.0, value + margin)
    runs = f"{len(first)} before, {len(second)} after"
    drawn = f"{len(labels)} clusters" + (" and seeds" if max(len(first), len(second)) > 1 else "")
    how = "; ".join(
        filter(
            None,
            [
                protocol,
                f"paired by prompt ({first.shape[1]}), runs: {runs}; 95 % percentile "
                f"bootstrap over {drawn} ({DRAWS} draws)",
                "" if confusion is None else "corrected for the judge's confusion",
            ],
        )
    )
    return Score(
        name, value, float(low), float(high), first.shape[1], how, higher_is_better, "points"
    )


class PairedDifference(Metric):
    """After minus before over prompts, one run a side, clusters given as integers.

    >>> metric = PairedDifference()
    >>> import torch
    >>> metric.update(torch.zeros(20).bool(), torch.arange(20) < 15, torch.arange(20))
    >>> print(metric.compute())
    75.0 points [55.0, 90.0], n = 20
    """

    is_differentiable = False
    full_state_update = False

    before: list[Tensor]
    after: list[Tensor]
    clusters: list[Tensor]

    def __init__(self, name: str = "difference", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_name = name
        for state in ("before", "after", "clusters"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, before: Tensor, after: Tensor, clusters: Tensor) -> None:
        """Remember a batch of prompts: hits before (n,), hits after (n,), cluster (n,)."""
        self.before.append(before)
        self.after.append(after)
        self.clusters.append(clusters)

    def compute(self) -> Score:
        """The difference so far, with its clustered interval."""
        if len(self.before) == 0:  # a list, or one tensor once ranks were gathered
            return Score.unavailable(self.score_name, "no cases", unit="points")
        before, after, clusters = (
            dim_zero_cat(state).tolist() for state in (self.before, self.after, self.clusters)
        )
        return paired_difference([before], [after], clusters, self.score_name)
