"""Edit distance of a page's lines, weighted by length, averaged over pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.bootstrapped_mean import bootstrapped_mean
from primum.metrics.score import Score


def line_edits(guesses: Sequence[str], truths: Sequence[str]) -> tuple[int, int]:
    """Edits of pairs of lines and the sum of their longer lengths.

    >>> line_edits(["kitten", ""], ["sitting", "abc"])
    (6, 10)
    """
    from rapidfuzz.distance import Levenshtein

    pairs = list(zip(guesses, truths, strict=True))
    edits = sum(Levenshtein.distance(guess, truth) for guess, truth in pairs)
    return edits, sum(max(len(guess), len(truth)) for guess, truth in pairs)


def order_edits(read: Sequence[float], orders: Sequence[float]) -> tuple[int, int]:
    """Edits between places as they were read and as they should be, and the longer length.

    >>> order_edits([1, 3, 2], [1, 2, 3, 4])
    (2, 4)
    """
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(list(read), list(orders)), max(len(read), len(orders))


class PageEditDistance(Metric):
    """Mean over pages of a page's edits over its length; pages without anything do not count.

    >>> import torch
    >>> metric = PageEditDistance("text")
    >>> metric.update(torch.tensor([6, 0]), torch.tensor([10, 5]))
    >>> print(metric.compute())
    0.300 [0.000, 0.600], n = 2
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    ratios: list[Tensor]

    def __init__(self, name: str = "edit distance", protocol: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_name, self.protocol = name, protocol
        self.add_state("ratios", default=[], dist_reduce_fx="cat")

    def update(self, edits: Tensor, lengths: Tensor) -> None:
        """Remember a batch of pages: edits (n,) and lengths (n,) of each."""
        kept = lengths > 0
        if kept.any():
            self.ratios.append(edits[kept].double() / lengths[kept].double())

    def compute(self) -> Score:
        """The mean so far, with a bootstrap interval over pages."""
        ratios = dim_zero_cat(self.ratios).tolist() if len(self.ratios) else []
        return bootstrapped_mean(
            ratios,
            self.score_name,
            "pages",
            protocol="; ".join(filter(None, [self.protocol, "edits / longer length"])),
            higher_is_better=False,
        )
