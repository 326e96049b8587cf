"""A paired change against SciPy's exact test and a slow cluster bootstrap."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from primum.metrics.corrected_rate import Confusion
from primum.metrics.paired_difference import PairedDifference, mcnemar_exact, paired_difference


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (8, 1), (5, 5), (30, 12), (0, 6)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(expected)


def test_the_interval_agrees_with_a_slow_cluster_bootstrap() -> None:
    draw = np.random.default_rng(5)
    clusters = np.repeat(np.arange(12), [4, 3, 5, 4, 6, 4, 2, 4, 4, 5, 3, 4])
    before = draw.random(len(clusters)) < 0.2
    after = draw.random(len(clusters)) < 0.2 + 0.5 * (clusters % 2)
    score = paired_difference([before], [after], clusters)
    change = after.astype(int) - before.astype(int)
    slow = []
    for _ in range(4000):
        picked = np.concatenate([change[clusters == c] for c in draw.integers(0, 12, 12)])
        slow.append(picked.mean())
    assert score.value == pytest.approx(change.mean())
    assert (score.low, score.high) == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.02)


def test_families_that_move_together_widen_the_interval() -> None:
    clusters = np.repeat(np.arange(10), 10)
    after = clusters < 5  # whole families rise, the others do not move
    before = np.zeros(100, dtype=bool)
    apart = paired_difference([before], [after], range(100))
    together = paired_difference([before], [after], clusters)
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_seeds_that_disagree_widen_the_interval() -> None:
    prompts = np.arange(60)
    before = [np.zeros(60, dtype=bool)]
    alike = [prompts % 2 == 0] * 3
    unlike = [prompts % 10 < share for share in (2, 5, 8)]  # the same mean over seeds
    one = paired_difference(before, alike, prompts)
    other = paired_difference(before, unlike, prompts)
    assert one.value == pytest.approx(other.value)
    assert other.high - other.low > 1.5 * (one.high - one.low)


@pytest.mark.parametrize("moved", [False, True])
def test_a_change_without_variation_is_not_certain(moved: bool) -> None:
    score = paired_difference([[False] * 100], [[moved] * 100], range(100))
    assert score.value == moved
    assert 0.02 < score.high - score.low < 0.08


@pytest.mark.seconds
def test_a_judges_blindness_is_divided_out() -> None:
    judge = Confusion(800, 200, 950, 50)
    before, after = [np.arange(400) < 20], [np.arange(400) < 170]
    raw = paired_difference(before, after, range(400))
    corrected = paired_difference(before, after, range(400), confusion=judge)
    assert corrected.value == pytest.approx(raw.value / 0.75)
    assert corrected.low < corrected.value < corrected.high


def test_a_useless_judge_and_unpaired_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="coin"):
        paired_difference([[True]], [[True]], [0], confusion=Confusion(1, 9, 1, 9))
    with pytest.raises(ValueError, match="not paired"):
        paired_difference([[True, False]], [[True]], [0])
    with pytest.raises(ValueError, match="clusters"):
        paired_difference([[True, False]], [[True, True]], [0])


def test_batches_add_up() -> None:
    before, after = torch.arange(30) % 4 == 0, torch.arange(30) % 3 == 0
    clusters = torch.arange(30) // 3
    metric = PairedDifference("rise")
    for index in torch.arange(30).split(8):
        metric.update(before[index], after[index], clusters[index])
    expected = paired_difference([before.tolist()], [after.tolist()], clusters.tolist(), "rise")
    assert metric.compute() == expected
