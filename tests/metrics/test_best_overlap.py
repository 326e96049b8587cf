"""Best overlap at budgets."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from primum.metrics.best_overlap import BestOverlap, best_overlaps


def codes(masks: np.ndarray) -> list[dict]:  # type: ignore[type-arg]
    return [coco_mask.encode(np.asfortranarray(one.astype(np.uint8))) for one in masks]


def test_budgets_by_loops() -> None:
    draw = np.random.default_rng(2)
    masks, truths = draw.random((7, 9, 8)) < 0.4, draw.random((3, 9, 8)) < 0.5
    ratio = np.array([[(m & t).sum() / (m | t).sum() for t in truths] for m in masks])
    found = best_overlaps(codes(masks), codes(truths), (1, 4, 50))
    for row, budget in enumerate((1, 4, 50)):
        assert found[row] == pytest.approx(ratio[:budget].max(0))


def test_truth_first_scores_one_hundred_and_no_masks_count() -> None:
    truths = codes(np.eye(9).reshape(9, 3, 3) > 0)
    metric = BestOverlap((10,))
    metric.update(truths, truths)
    assert metric.compute()["miou_10"].value == 1.0
    metric.update([], truths)
    assert metric.compute()["miou_10"].value == 0.5 and metric.compute()["miou_10"].n == 2
    assert BestOverlap().compute()["miou_50"].value is None
