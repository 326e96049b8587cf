"""A judge's known mistakes are taken out, and the interval says what that costs."""

import numpy as np
import pytest
import torch

from primum.metrics.corrected_rate import Confusion, CorrectedRate, corrected_rate
from primum.metrics.proportion import proportion


@pytest.mark.parametrize("truth", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_true_rate_is_recovered_from_expected_counts(truth: float) -> None:
    judge = Confusion(80, 20, 950, 50)  # sensitivity 0.8, specificity 0.95
    seen = truth * 0.8 + (1 - truth) * 0.05
    score = corrected_rate(round(seen * 10_000), 10_000, judge)
    assert score.value == pytest.approx(truth, abs=1e-3)


@pytest.mark.parametrize(
    ("truth", "sensitivity", "specificity"), [(0.3, 0.9, 0.95), (0.9, 0.9, 0.9), (0.05, 0.95, 0.99)]
)
def test_the_interval_covers_the_truth_as_often_as_it_says(
    truth: float, sensitivity: float, specificity: float
) -> None:
    draw = np.random.default_rng(7)
    covered = 0
    for _ in range(1500):
        found, left = draw.binomial(60, sensitivity), draw.binomial(90, specificity)
        hits = draw.binomial(100, truth * sensitivity + (1 - truth) * (1 - specificity))
        score = corrected_rate(hits, 100, Confusion(found, 60 - found, left, 90 - left))
        covered += score.low <= truth <= score.high
    assert covered / 1500 >= 0.94


def test_a_judge_never_caught_out_still_widens_the_interval() -> None:
    score, raw = corrected_rate(30, 100, Confusion(40, 0, 60, 0)), proportion(30, 100)
    assert score.value == pytest.approx(0.3)
    assert score.high - score.low > raw.high - raw.low


@pytest.mark.parametrize(
    "judge", [Confusion(5, 5, 5, 5), Confusion(2, 8, 2, 8), Confusion(0, 0, 9, 1)]
)
def test_a_judge_no_better_than_a_coin_corrects_nothing(judge: Confusion) -> None:
    score = corrected_rate(3, 10, judge)
    assert score.value is None and "no better than a coin" in score.protocol


def test_estimates_stay_within_zero_and_one() -> None:
    judge = Confusion(45, 5, 80, 20)
    assert corrected_rate(0, 50, judge).value == 0
    assert corrected_rate(50, 50, judge).value == 1


def test_batches_add_up() -> None:
    judge = Confusion(45, 5, 90, 10)
    hits = torch.arange(100) % 3 == 0
    metric = CorrectedRate(judge, "refused")
    for batch in hits.split(9):
        metric.update(batch)
    assert metric.compute() == corrected_rate(int(hits.sum()), 100, judge, "refused")
