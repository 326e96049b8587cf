"""Covering against the loops of its definition."""

import numpy as np
import pytest
import torch

from primum.metrics.covering import Covering, covering_counts, overlaps


def by_loops(partitions: np.ndarray, truths: list[np.ndarray]) -> tuple[list[float], float, float]:
    covered, best, total = [0.0] * len(partitions), 0.0, 0.0
    for truth in truths:
        for label in np.unique(truth):
            region = truth == label
            found = []
            for scale, partition in enumerate(partitions):
                ratios = [
                    (region & (partition == other)).sum() / (region | (partition == other)).sum()
                    for other in np.unique(partition)
                ]
                found.append(max(ratios))
                covered[scale] += region.sum() * max(ratios)
            best += region.sum() * max(found)
            total += region.sum()
    return covered, best, total


@pytest.fixture
def images() -> list[tuple[np.ndarray, list[np.ndarray]]]:
    draw = np.random.default_rng(3)
    return [
        (draw.integers(0, 5, (3, 11, 7)), [draw.integers(0, 4, (11, 7)) for _ in range(2)])
        for _ in range(4)
    ]


def test_counts_are_those_of_the_definition(images) -> None:  # type: ignore[no-untyped-def]
    for partitions, truths in images:
        counts = covering_counts(partitions, truths)
        covered, best, total = by_loops(partitions, truths)
        assert counts.covered == pytest.approx(covered)
        assert (counts.best, counts.total) == (pytest.approx(best), total)


def test_ods_has_one_scale_and_ois_one_an_image(images) -> None:  # type: ignore[no-untyped-def]
    metric = Covering()
    for partitions, truths in images:
        metric.update(torch.from_numpy(partitions), [torch.from_numpy(one) for one in truths])
    scores = metric.compute()
    loops = [by_loops(*image) for image in images]
    covered, total = np.array([one[0] for one in loops]), sum(one[2] for one in loops)
    assert scores["ods"].value == pytest.approx(covered.sum(0).max() / total)
    assert scores["ois"].value == pytest.approx(covered.max(1).sum() / total)
    assert scores["best"].value == pytest.approx(sum(one[1] for one in loops) / total)
    values = [scores[key].value for key in ("ods", "ois", "best")]
    assert values == sorted(values) and scores["ods"].n == 4
    for score in scores.values():
        assert score.low <= score.value <= score.high


def test_labels_may_be_missing_and_shapes_must_agree() -> None:
    (table,), pixels = overlaps(np.array([[[5, 5]]]), [np.array([[2, 2]])])
    assert table.tolist() == [[0, 0, 0, 0, 0, 1]] and pixels.tolist() == [2]
    with pytest.raises(ValueError, match="shape"):
        overlaps(np.zeros((1, 2, 2), int), [np.zeros((2, 3), int)])


def test_nothing_gives_no_figure() -> None:
    assert Covering().compute()["ods"].value is None
