"""The interval of a share against SciPy's."""

import pytest
import torch
from scipy.stats import binomtest

from primum.metrics.proportion import Proportion, proportion, wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (1, 1), (3, 20), (50, 100), (999, 1000), (12, 12)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(hits, n)


def test_no_cases_make_no_score() -> None:
    score = proportion(0, 0)
    assert score.value is None and "no cases" in score.protocol


def test_batches_add_up() -> None:
    hits = torch.rand(101, generator=torch.Generator().manual_seed(0)) < 0.3
    metric = Proportion("refused")
    for batch in hits.split(7):
        metric.update(batch)
    assert metric.compute() == proportion(int(hits.sum()), 101, "refused")
    metric.reset()
    assert metric.compute().n == 0
