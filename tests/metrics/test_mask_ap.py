"""Our image-by-image matching against pycocotools' evaluation of all images at once."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from primum.metrics.mask_ap import MaskAP, Pool, mask_ap_scores, match_image

SIZE = (160, 170)


def rectangle(draw: np.random.Generator, near: np.ndarray | None = None) -> np.ndarray:
    y, x = draw.integers(0, 100, 2)
    h, w = draw.choice([9, 20, 50, 110], 2)
    if near is not None:
        ys, xs = np.nonzero(near)
        y, x = ys.min() + draw.integers(-2, 3), xs.min() + draw.integers(-2, 3)
        h, w = np.ptp(ys) + 1 + draw.integers(-2, 3), np.ptp(xs) + 1 + draw.integers(-2, 3)
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[max(0, y) : max(1, y + h), max(0, x) : max(1, x + w)] = 1
    return mask


def scene(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Detections and truths; some picture has no truth, some none detected, some a crowd."""
    draw = np.random.default_rng(seed)
    truths, shown = [], []
    for number in range(0 if seed % 5 == 4 else draw.integers(1, 7)):
        mask = rectangle(draw)
        shown.append(mask)
        code = coco_mask.encode(mask)
        truths.append({
            "segmentation": code, "area": float(coco_mask.area(code)),
            "bbox": coco_mask.toBbox(code).tolist(), "iscrowd": int(number == 0 and seed % 3 == 0),
        })  # fmt: skip
    detections = []
    for _ in range(0 if seed % 7 == 6 else draw.integers(1, 15)):
        near = shown[draw.integers(len(shown))] if shown and draw.random() < 0.7 else None
        code = coco_mask.encode(rectangle(draw, near))
        # few different scores: ties must fall as they do in COCO's code
        detections.append({
            "segmentation": code, "bbox": coco_mask.toBbox(code).tolist(),
            "score": float(draw.choice([0.2, 0.5, 0.7, 0.9])),
        })  # fmt: skip
    return detections, truths


def by_pycocotools(scenes: list[Any], kind: str, max_dets: list[int]) -> COCOeval:
    images = [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(1, len(scenes) + 1)]
    truths, detections = [], []
    for image, (found, true) in enumerate(scenes, 1):
        truths += [one | {"image_id": image, "category_id": 1} for one in true]
        detections += [one | {"image_id": image, "category_id": 1} for one in found]
    with contextlib.redirect_stdout(io.StringIO()):
        gt, dt = COCO(), COCO()
        numbered = [one | {"id": n} for n, one in enumerate(truths, 1)]
        gt.dataset = {"images": images, "categories": [{"id": 1}], "annotations": numbered}
        found = [
            one | {"id": n, "iscrowd": 0, "area": float(
                coco_mask.area(one["segmentation"]) if kind == "segm"
                else one["bbox"][2] * one["bbox"][3]
            )}
            for n, one in enumerate(detections, 1)
        ]  # fmt: skip
        dt.dataset = {"images": images, "categories": [{"id": 1}], "annotations": found}
        gt.createIndex()
        dt.createIndex()
        run = COCOeval(gt, dt, kind)
        run.params.useCats, run.params.maxDets = 0, max_dets
        run.evaluate()
        run.accumulate()
    return run


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_ap_and_ar_equal_pycocotools(kind: str) -> None:
    scenes = [scene(seed) for seed in range(40)]
    max_dets = [1, 4, 10]
    run = by_pycocotools(scenes, kind, max_dets)
    images = [match_image(found, true, 10, kind) for found, true in scenes]
    pool, ones = Pool(images, 10), np.ones((1, len(images)))
    for area in range(4):
        for threshold in range(10):
            expected = run.eval["precision"][threshold, :, 0, area, 2].mean()
            assert pool.precision(ones[0], area, threshold) == pytest.approx(expected, abs=1e-12)
    scores = mask_ap_scores(images, "test", most=10, recalls=max_dets, draws=5)
    for column, number in enumerate(max_dets):
        expected = run.eval["recall"][:, 0, 0, column].mean()
        assert scores[f"ar_{number}"].value == pytest.approx(expected, abs=1e-12)
    for area, name in enumerate(("small", "medium", "large"), 1):
        expected = run.eval["recall"][:, 0, area, 2].mean()
        assert scores[f"ar_{name}"].value == pytest.approx(expected, abs=1e-12)
    assert scores["ap"].value == pytest.approx(run.eval["precision"][:, :, 0, 0, 2].mean())
    assert scores["ap"].low < scores["ap"].value < scores["ap"].high


def test_truth_as_prediction_scores_one_hundred() -> None:
    metric = MaskAP(recalls=(10,))
    for seed in range(6):
        _, truths = scene(seed)
        metric.update([one | {"score": 1.0} for one in truths if not one["iscrowd"]], truths)
    scores = metric.compute()
    assert scores["ap"].value == scores["ar_10"].value == 1.0


def test_an_image_without_detections_lowers_recall() -> None:
    _, truths = scene(1)
    perfect = [one | {"score": 1.0} for one in truths]
    whole, half = MaskAP(recalls=(10,)), MaskAP(recalls=(10,))
    whole.update(perfect, truths)
    half.update(perfect, truths)
    half.update([], truths)
    assert whole.compute()["ar_10"].value == 1.0
    assert half.compute()["ar_10"].value == pytest.approx(0.5)


def test_weights_are_repetitions() -> None:
    images = [match_image(*scene(seed)) for seed in range(9)]
    weights = np.array([0, 2, 1, 0, 3, 1, 1, 0, 1])
    again = [one for one, times in zip(images, weights, strict=True) for _ in range(times)]
    for area in range(4):
        drawn = Pool(images, 100).average(weights[None].astype(float), area)
        # repeated images stand side by side, so ties between images keep their order
        assert drawn == pytest.approx(
            Pool(again, 100).average(np.ones((1, len(again))), area), abs=0.02, nan_ok=True
        )
