"""Average precision and recall of masks or boxes, as COCO counts them, with intervals over images.

Each image is matched by itself, so that a result row holds all that the scores need, an interrupted
evaluation goes on, and images can be drawn again for the interval.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torchmetrics import Metric

from primum.extras import require
from primum.metrics.resampling import ratio_of_sums, resampled_score
from primum.metrics.score import Score

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
AP_DRAWS = 200  # each sorts all detections again


class ImageMatches(NamedTuple):
    """One image's detections, best first, after matching.

    Attributes:
        scores: (detections,).
        matched: (areas, thresholds, detections) whether it found a truth.
        ignored: The same shape; it counts neither as right nor as wrong.
        truths: (areas,) how many there are to be found.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    truths: np.ndarray


def match_image(
    detections: Sequence[Mapping[str, Any]],
    truths: Sequence[Mapping[str, Any]],
    max_detections: int = 1000,
    kind: str = "segm",
) -> ImageMatches:
    """Match detections to truths of one class by COCO's rules (pycocotools 2.0).

    Detections take turns, the most certain first; each takes the free truth it overlaps most. A
    crowd takes any number, and neither it nor a truth of another size counts.

    Args:
        detections: `segmentation` (run-length code) or `bbox` (x, y, width, height), and `score`.
        truths: `segmentation` or `bbox`, `area`, `iscrowd`.
        max_detections: The most certain ones that take part.
        kind: `segm` or `bbox`.

    Raises:
        UserError: pycocotools is not installed.
    """
    coco = require("pycocotools.mask", "segmentation")
    order = np.argsort([-one["score"] for one in detections], kind="mergesort")[:max_detections]
    chosen = [detections[index] for index in order]
    scores = np.array([one["score"] for one in chosen], float)
    field = "segmentation" if kind == "segm" else "bbox"
    crowd = np.array([bool(one.get("iscrowd", 0)) for one in truths], bool)
    area = np.array([one["area"] for one in truths], float)
    ranges = np.array(list(AREAS.values()))[:, :, None]
    skip = crowd | (area < ranges[:, 0]) | (area > ranges[:, 1])  # (areas, truths)
    wanted = (~skip).sum(1)
    shape = (len(AREAS), len(THRESHOLDS), len(chosen))
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    if not chosen:
        return ImageMatches(scores, matched, ignored, wanted)

    shown = [one[field] for one in chosen]
    size = np.asarray(coco.area(shown) if kind == "segm" else [b[2] * b[3] for b in shown], float)
    outside = (size < ranges[:, 0]) | (size > ranges[:, 1])  # (areas, detections)
    if len(truths):
        overlap = np.asarray(
            coco.iou(shown, [one[field] for one in truths], crowd.astype(int).tolist())
        ).reshape(len(chosen), len(truths))
        least = np.minimum(THRESHOLDS, 1 - 1e-10)[None, :, None]
        free = np.ones((len(AREAS), len(THRESHOLDS), len(truths)), bool)
        last = len(truths) - 1
        a, t = np.indices(shape[:2])
        for number in np.nonzero(overlap.max(1) >= THRESHOLDS[0])[0]:
            able = (free | crowd) & (overlap[number] >= least)
            counted = able & ~skip[:, None]
            able = np.where(counted.any(2, keepdims=True), counted, able)
            # among equals the later truth, as COCO's loop has it
            best = last - np.where(able, overlap[number], -1.0)[..., ::-1].argmax(2)
            hit = able.any(2)
            matched[..., number] = hit
            ignored[..., number] = hit & skip[a, best]
            free[a[hit], t[hit], best[hit]] = False
    ignored |= ~matched & outside[:, None]
    return ImageMatches(scores, matched, ignored, wanted)


class Pool:
    """All images' detections in one order, ready for weighted precision-recall curves."""

    def __init__(self, images: Sequence[ImageMatches], most: int) -> None:
        self.truths = np.array([one.truths for one in images]).reshape(len(images), len(AREAS))
        kept = [min(most, len(one.scores)) for one in images]
        scores = np.concatenate([one.scores[:n] for one, n in zip(images, kept, strict=True)])
        order = np.argsort(-scores, kind="mergesort")
        self.image = np.repeat(np.arange(len(images)), kept)[order]
        empty = [np.zeros((len(AREAS), len(THRESHOLDS), 0), bool)]

        def gather(name: str) -> np.ndarray:
            parts = [getattr(one, name)[..., :n] for one, n in zip(images, kept, strict=True)]
            return np.concatenate(empty + parts, axis=2)[..., order]

        ignored = gather("ignored")
        matched = gather("matched")
        self.right, self.wrong = matched & ~ignored, ~matched & ~ignored

    def precision(self, weights: np.ndarray, area: int, threshold: int) -> float:
        """Mean interpolated precision at 101 recalls; NaN where there is nothing to find."""
        wanted = float(weights @ self.truths[:, area])
        if wanted == 0:
            return float("nan")
        own = weights[self.image]
        right = np.cumsum(own * self.right[area, threshold])
        wrong = np.cumsum(own * self.wrong[area, threshold])
        recall = right / wanted
        precision = right / (right + wrong + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        place = np.searchsorted(recall, RECALLS, side="left")
        return float(np.append(precision, 0.0)[place].mean())

    def average(
        self, weights: np.ndarray, area: int, thresholds: Sequence[int] = range(10)
    ) -> np.ndarray:
        """Average precision of each draw: weights (draws, images)."""
        return np.array(
            [np.mean([self.precision(one, area, t) for t in thresholds]) for one in weights]
        )


def mask_ap_scores(
    images: Sequence[ImageMatches],
    protocol: str,
    *,
    most: int = 100,
    recalls: Sequence[int] = (1, 10, 100, 1000),
    draws: int = AP_DRAWS,
) -> dict[str, Score]:
    """AP at `most` detections an image, AP50, AP75, by size, and AR at several numbers.

    Args:
        images: Every image, those without detections included.
        protocol: What was matched with what.
        draws: Bootstrap samples of AP; AR takes more.
    """
    pool, scores = Pool(images, most), {}
    names = list(AREAS)
    n = len(images)
    at = f"{protocol}, at most {most} an image"
    every, half, three_quarters = range(len(THRESHOLDS)), [0], [5]
    for key, title, area, thresholds in (
        ("ap", "AP", 0, every),
        ("ap50", "AP50", 0, half),
        ("ap75", "AP75", 0, three_quarters),
        *((f"ap_{name}", f"AP, {name}", names.index(name), every) for name in names[1:]),
    ):
        scores[key] = resampled_score(
            title, n, lambda w, area=area, at=thresholds: pool.average(w, area, at),  # type: ignore[misc]
            at, draws=draws,
        )  # fmt: skip

    truths = np.array([one.truths for one in images], float).reshape(n, len(AREAS))

    def recall(key: str, title: str, area: int, number: int) -> None:
        found = np.array(
            [
                (one.matched & ~one.ignored)[area, :, :number].sum() / len(THRESHOLDS)
                for one in images
            ]
        )
        scores[key] = resampled_score(
            title, n, ratio_of_sums(found, truths[:, area]), f"{protocol}, best {number} an image"
        )

    for number in recalls:
        recall(f"ar_{number}", f"AR@{number}", 0, number)
    for name in names[1:]:
        recall(f"ar_{name}", f"AR@{max(recalls)}, {name}", names.index(name), max(recalls))
    return scores


class MaskAP(Metric):
    """COCO's AP and AR of one class, from masks or boxes.

    Args:
        most: Detections an image that AP is taken at.
        recalls: Numbers of detections that AR is taken at.
        kind: `segm` or `bbox`.
    """

    is_differentiable = False
    full_state_update = False

    images: list[Any]

    def __init__(
        self,
        protocol: str = "COCO AP@[.5:.95]",
        *,
        most: int = 100,
        recalls: Sequence[int] = (1, 10, 100, 1000),
        kind: str = "segm",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.protocol, self.most, self.recalls, self.kind = protocol, most, recalls, kind
        self.add_state("images", default=[], dist_reduce_fx=None)

    def update(
        self, detections: Sequence[Mapping[str, Any]], truths: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add one image; see `match_image`."""
        most = max(self.most, *self.recalls)
        self.images.append(match_image(detections, truths, most, self.kind))

    def compute(self) -> dict[str, Score]:
        """The scores so far."""
        return mask_ap_scores(self.images, self.protocol, most=self.most, recalls=self.recalls)
