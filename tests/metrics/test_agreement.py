"""Kappa against scikit-learn's, and an interval that never claims certainty."""

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from primum.metrics.agreement import CohenKappa, cohen_kappa


@pytest.mark.parametrize("seed", range(5))
def test_kappa_agrees_with_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    first = draw.integers(0, 4, 60)
    second = np.where(draw.random(60) < 0.7, first, draw.integers(0, 4, 60))
    score = cohen_kappa(first.tolist(), second.tolist())
    assert score.value == pytest.approx(cohen_kappa_score(first, second))
    assert score.low < score.value < score.high
    metric = CohenKappa()
    metric.update(torch.tensor(first[:25]), torch.tensor(second[:25]))
    metric.update(torch.tensor(first[25:]), torch.tensor(second[25:]))
    assert metric.compute() == score


def test_full_agreement_is_not_certainty() -> None:
    score = cohen_kappa([0, 1] * 20, [0, 1] * 20)
    assert score.value == 1 and score.low < 0.9


def test_one_label_throughout_has_no_kappa() -> None:
    assert cohen_kappa(["a"] * 5, ["a"] * 5).value is None


def test_passes_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 labels against 2"):
        cohen_kappa([1, 2, 3], [1, 2])
