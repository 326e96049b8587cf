"""How far two passes over the same answers agree beyond chance."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.proportion import wilson_interval
from primum.metrics.score import Score


def cohen_kappa(
    first: Sequence[str | int], second: Sequence[str | int], name: str = "Cohen's kappa"
) -> Score:
    """Cohen's kappa (1960): agreement beyond what the two margins would give by chance.

    The interval takes Wilson's limits of the observed agreement with chance agreement held fixed,
    so that full agreement on n answers is not reported as certain.

    Raises:
        ValueError: The two passes are of different length.

    >>> print(cohen_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"]))
    0.500 [-0.399, 0.909], n = 4
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} labels against {len(second)}")
    n = len(first)
    if n == 0:
        return Score.unavailable(name, "no labels", True)
    hits = sum(one == other for one, other in zip(first, second, strict=True))
    left, right = Counter(first), Counter(second)
    chance = sum(left[label] * right[label] for label in left) / n**2
    if chance == 1:
        return Score.unavailable(name, "every label is the same, chance explains all", True)
    low, high = wilson_interval(hits, n)
    value, low, high = ((share - chance) / (1 - chance) for share in (hits / n, low, high))
    how = f"Cohen's kappa, {hits} of {n} agree, 95 % interval from Wilson's on the agreement"
    return Score(name, value, low, high, n, how, True)


class CohenKappa(Metric):
    """Cohen's kappa of two passes given as integer labels.

    >>> metric = CohenKappa()
    >>> import torch
    >>> metric.update(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))
    >>> print(metric.compute())
    0.500 [-0.399, 0.909], n = 4
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    first: list[Tensor]
    second: list[Tensor]

    def __init__(self, name: str = "Cohen's kappa", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_name = name
        self.add_state("first", default=[], dist_reduce_fx="cat")
        self.add_state("second", default=[], dist_reduce_fx="cat")

    def update(self, first: Tensor, second: Tensor) -> None:
        """Remember a batch of label pairs, each (n,) of integers."""
        self.first.append(first)
        self.second.append(second)

    def compute(self) -> Score:
        """The agreement so far, with its interval."""
        if len(self.first) == 0:  # a list, or one tensor once ranks were gathered
            return cohen_kappa([], [], self.score_name)
        return cohen_kappa(
            dim_zero_cat(self.first).tolist(), dim_zero_cat(self.second).tolist(), self.score_name
        )
