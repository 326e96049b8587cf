"""Edits that turn what was read into what stood there, per character that stood there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.resampling import DRAWS, image_weights, percentile_interval
from primum.metrics.score import Score


def character_error_rate(
    edits: Sequence[int], lengths: Sequence[int], name: str = "character error rate"
) -> Score:
    """All edits over all characters; may exceed 1.

    Args:
        edits: Of each page.
        lengths: Characters that stood on each.
        name: What was read.

    >>> print(character_error_rate([0, 2], [10, 10]))
    10.0 % [0.0, 20.0], n = 2
    """
    if not len(lengths) or not sum(lengths):
        return Score.unavailable(name, "nothing to read", False, "proportion")
    # sorted, so that the interval is the same whichever rank saw what
    pairs = np.array(sorted(zip(edits, lengths, strict=True)), dtype=np.float64)
    sums = image_weights(len(pairs)) @ pairs
    low, high = percentile_interval(sums[:, 0] / np.maximum(sums[:, 1], 1))
    how = f"edits / characters of all pages; 95 % percentile bootstrap over pages ({DRAWS} draws)"
    value = float(pairs[:, 0].sum() / pairs[:, 1].sum())
    return Score(name, value, low, high, len(pairs), how, False, "proportion")


class CharacterErrorRate(Metric):
    """Character error rate over pages.

    >>> import torch
    >>> metric = CharacterErrorRate()
    >>> metric.update(torch.tensor([0, 2]), torch.tensor([10, 10]))
    >>> print(metric.compute())
    10.0 % [0.0, 20.0], n = 2
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    edits: list[Tensor]
    lengths: list[Tensor]

    def __init__(self, name: str = "character error rate", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_name = name
        self.add_state("edits", default=[], dist_reduce_fx="cat")
        self.add_state("lengths", default=[], dist_reduce_fx="cat")

    def update(self, edits: Tensor, lengths: Tensor) -> None:
        """Remember a batch of pages: edits (n,) and characters (n,) of each."""
        self.edits.append(edits)
        self.lengths.append(lengths)

    def compute(self) -> Score:
        """The rate so far, with its interval."""
        if len(self.edits) == 0:
            return character_error_rate([], [], self.score_name)
        edits, lengths = dim_zero_cat(self.edits), dim_zero_cat(self.lengths)
        return character_error_rate(edits.tolist(), lengths.tolist(), self.score_name)
