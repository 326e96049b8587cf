"""The plain mean of several benchmarks' proportions, each counting alike, with its interval."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from primum.metrics.proportion import wilson_interval
from primum.metrics.score import Score


def macro_mean(
    counts: Mapping[str, tuple[int, int]],
    name: str = "macro mean",
    *,
    protocol: str = "",
    higher_is_better: bool | None = True,
) -> Score:
    """Unweighted mean of proportions given as (hits, n) by benchmark; the list is its protocol.

    The interval joins Wilson's limits of the parts by the MOVER rule (Zou and Donner, 2008): the
    distances to them add up in squares, so that a part without a mistake keeps its uncertainty.

    >>> print(macro_mean({"medqa": (60, 100), "pubmedqa": (40, 50)}))
    70.0 % [61.8, 76.3], n = 150
    """
    empty = [part for part, (_, n) in counts.items() if n == 0]
    if not counts or empty:
        why = f"no cases of {', '.join(empty)}" if empty else "no benchmarks"
        return Score.unavailable(name, why, higher_is_better, "proportion")
    shares = {part: hits / n for part, (hits, n) in counts.items()}
    ends = {part: wilson_interval(hits, n) for part, (hits, n) in counts.items()}
    value = sum(shares.values()) / len(counts)
    below = sqrt(sum((shares[part] - ends[part][0]) ** 2 for part in counts)) / len(counts)
    above = sqrt(sum((ends[part][1] - shares[part]) ** 2 for part in counts)) / len(counts)
    parts = ", ".join(f"{part} {hits}/{n}" for part, (hits, n) in counts.items())
    how = "; ".join(
        filter(
            None,
            [
                protocol,
                f"unweighted mean of {len(counts)}: {parts}; MOVER 95 % interval from Wilson's",
            ],
        )
    )
    total = sum(n for _, n in counts.values())
    return Score(
        name, value, value - below, value + above, total, how, higher_is_better, "proportion"
    )


class MacroMean(Metric):
    """The unweighted mean of proportions over named benchmarks.

    >>> metric = MacroMean(["medqa", "pubmedqa"])
    >>> metric.update(torch.tensor([True, False, True]), torch.tensor([0, 0, 1]))
    >>> print(metric.compute())
    75.0 % [30.4, 95.3], n = 3
    """

    is_differentiable = False
    full_state_update = False

    hits: Tensor
    count: Tensor

    def __init__(
        self, parts: list[str], name: str = "macro mean", protocol: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.parts, self.score_name, self.protocol = list(parts), name, protocol
        self.add_state("hits", torch.zeros(len(parts), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(len(parts), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, hit: Tensor, part: Tensor) -> None:
        """Count a batch: `hit` boolean (n,), `part` the benchmark's index (n,)."""
        self.hits += torch.bincount(part[hit.bool()], minlength=len(self.parts))
        self.count += torch.bincount(part, minlength=len(self.parts))

    def compute(self) -> Score:
        """The mean so far, with its interval."""
        counts = zip(self.hits.tolist(), self.count.tolist(), strict=True)
        return macro_mean(
            dict(zip(self.parts, counts, strict=True)), self.score_name, protocol=self.protocol
        )
