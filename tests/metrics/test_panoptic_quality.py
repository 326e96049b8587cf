"""Panoptic quality against the loops of its definition, over maps of pixels."""

import numpy as np
import pytest

from primum.metrics.panoptic_quality import (
    PanopticQuality,
    panoptic_counts,
    quality,
    relabelled,
    segment_overlaps,
)

CATEGORIES = [1, 2, 3]


def by_pixels(predicted, own, truth, true, crowd) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Right, wrong, missed and overlap a category, from masks."""
    counts = np.zeros((len(CATEGORIES), 4))
    void = ~np.isin(truth, list(true))
    found, taken = set(), set()
    for i, j in (
        (i, j) for i in own for j in true if (predicted == i).any() and (truth == j).any()
    ):
        if own[i] != true[j] or j in crowd:
            continue
        mine, theirs = predicted == i, truth == j
        overlap = (mine & theirs).sum() / ((mine & ~void) | theirs).sum()
        if overlap > 0.5:
            found.add(j)
            taken.add(i)
            counts[CATEGORIES.index(own[i])] += [1, 0, 0, overlap]
    for j in true:
        if j not in found and j not in crowd and (truth == j).any():
            counts[CATEGORIES.index(true[j]), 2] += 1
    for i in own:
        mine = predicted == i
        if i in taken or not mine.any():
            continue
        crowded = [truth == j for j in crowd if true[j] == own[i]]
        excused = mine & (void | np.any(crowded, 0) if crowded else void)
        if excused.sum() <= 0.5 * mine.sum():
            counts[CATEGORIES.index(own[i]), 1] += 1
    return counts


def picture(seed: int):  # type: ignore[no-untyped-def]
    draw = np.random.default_rng(seed)
    truth = np.kron(draw.integers(0, 7, (3, 4)), np.ones((4, 4), int))
    predicted = np.where(draw.random(truth.shape) < 0.85, truth, draw.integers(0, 9, truth.shape))
    true = {label: int(draw.integers(1, 4)) for label in range(1, 7)}
    own = {label: true.get(label, 3) if draw.random() < 0.9 else 1 for label in range(1, 9)}
    return predicted, own, truth, true, [5] if seed % 2 else []


@pytest.mark.parametrize("seed", range(12))
def test_counts_are_those_of_the_definition(seed: int) -> None:
    given = picture(seed)
    counts = panoptic_counts(segment_overlaps(*given), CATEGORIES)
    assert counts == pytest.approx(by_pixels(*given))


def test_truth_as_prediction_scores_one_hundred() -> None:
    metric = PanopticQuality([1], [2, 3])
    for seed in range(4):
        _, _, truth, true, _ = picture(seed)
        metric.update(segment_overlaps(truth, true, truth, true))
    scores = metric.compute()
    assert scores["pq"].value == scores["sq"].value == scores["rq"].value == 1.0
    _, _, truth, true, _ = picture(0)
    metric.update(segment_overlaps(np.zeros_like(truth), {}, truth, true))
    assert metric.compute()["rq"].value < 1.0, "a picture without prediction counts"


def test_pq_is_the_mean_of_categories_and_not_sq_times_rq() -> None:
    counts = np.array([[2, 0, 0, 1.2], [1, 3, 1, 1.0], [0, 0, 0, 0]])
    pq, sq, rq = quality(counts)
    assert pq == pytest.approx((0.6 + 1 / 3) / 2)
    assert sq == pytest.approx((0.6 + 1.0) / 2) and rq == pytest.approx((1 + 1 / 3) / 2)
    assert pq != pytest.approx(sq * rq)


def test_clusters_of_one_stuff_become_one_segment() -> None:
    truth = np.array([[1, 1, 1, 1, 2, 2]])
    predicted = np.array([[1, 1, 2, 2, 3, 4]])
    image = segment_overlaps(predicted, {1: 70, 2: 71, 3: 80, 4: 99}, truth, {1: 2, 2: 1})
    joined = relabelled(image, {70: 2, 71: 2, 80: 1}, stuff=[2, 3])
    counts = panoptic_counts(joined, CATEGORIES)
    assert counts[1].tolist() == [1, 0, 0, 1.0], "two halves of the stuff are it"
    assert counts[0].tolist() == [0, 1, 1, 0.0], (
        "half of a thing is not; an unmapped one is nothing"
    )
