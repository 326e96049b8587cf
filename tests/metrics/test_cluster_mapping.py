"""Each mapping by its own name, against brute force."""

import itertools

import numpy as np
import pytest
import torch

from primum.metrics.cluster_mapping import (
    ClusterSegmentation,
    accuracy_and_miou,
    hungarian,
    hungarian_then_majority,
    identity,
    many_to_one,
    pixel_confusion,
    semantic_scores,
)


@pytest.mark.parametrize("clusters", [3, 4, 5])
def test_hungarian_is_the_best_one_to_one_mapping(clusters: int) -> None:
    confusion = np.random.default_rng(clusters).integers(0, 50, (clusters, 3))
    best = max(
        sum(confusion[row, column] for column, row in enumerate(rows))
        for rows in itertools.permutations(range(clusters), 3)
    )
    mapping = hungarian(confusion)
    used = mapping[mapping >= 0]
    assert sorted(used) == [0, 1, 2] and (mapping == -1).sum() == clusters - 3
    assert sum(confusion[row, column] for row, column in enumerate(mapping) if column >= 0) == best


def test_the_mappings_order_as_they_must() -> None:
    confusion = np.random.default_rng(0).integers(0, 90, (12, 4))
    one, rest, many = (
        accuracy_and_miou(confusion, fit(confusion))[0]
        for fit in (hungarian, hungarian_then_majority, many_to_one)
    )
    assert one <= rest <= many


def test_accuracy_and_miou_by_loops() -> None:
    draw = np.random.default_rng(1)
    clusters, truth = draw.integers(-1, 6, (13, 9)), draw.integers(-1, 4, (13, 9))
    confusion = pixel_confusion(clusters, truth, 6, 4)
    mapping = np.append(many_to_one(confusion[:-1]), -1)
    labelled = truth >= 0
    meant = np.where(clusters >= 0, mapping[clusters], -1)
    accuracy, miou = accuracy_and_miou(confusion, mapping)
    assert confusion.sum() == labelled.sum()
    assert accuracy == pytest.approx((meant == truth)[labelled].mean())
    overlaps = []
    for label in range(4):
        mine, theirs = (meant == label) & labelled, truth == label
        if (mine | theirs).any():
            overlaps.append((mine & theirs).sum() / (mine | theirs).sum())
    assert miou == pytest.approx(np.mean(overlaps))


def test_a_picture_without_prediction_counts() -> None:
    metric = ClusterSegmentation(2, 2)
    truth = torch.tensor([[0, 1], [1, 1]])
    metric.update(1 - truth, truth)  # clusters need only agree up to their names
    assert metric.compute()["pixel_accuracy"].value == metric.compute()["miou"].value == 1.0
    metric.update(torch.full((2, 2), -1), truth)
    assert metric.compute()["pixel_accuracy"].value == 0.5


def test_fitting_on_other_images_is_no_better_and_named() -> None:
    draw = np.random.default_rng(5)
    images = draw.integers(0, 30, (6, 5, 3)).astype(float)
    own = semantic_scores(images, "many_to_one", draws=20)
    other = semantic_scores(
        images, "many_to_one", fitted=draw.integers(0, 30, (5, 3)), fitted_on="train", draws=20
    )
    assert other["pixel_accuracy"].value <= own["pixel_accuracy"].value
    assert "fitted on train" in other["miou"].protocol and "many_to_one" in own["miou"].protocol
    assert identity(np.zeros((4, 2))).tolist() == [0, 1, -1, -1]
