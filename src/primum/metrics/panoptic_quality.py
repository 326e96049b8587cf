"""Panoptic quality: segments found, times how well they fit (Kirillov et al., 2019).

An image is reduced to its segments and how they overlap, which is all that any mapping of clusters
to classes, and any resampling of images, needs afterwards.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torchmetrics import Metric

from primum.metrics.resampling import DRAWS, resampled_score
from primum.metrics.score import Score

VOID = 0  # of segment maps: pixels that belong to no segment


class SegmentOverlaps(NamedTuple):
    """The segments of one image.

    Attributes:
        predicted: (category, pixels) each; the category may be a cluster.
        truth: (category, pixels, crowd) each.
        shared: (predicted index, truth index, pixels), the pairs that overlap.
        void: Pixels of each predicted segment that have no true segment.
    """

    predicted: list[tuple[int, int]]
    truth: list[tuple[int, int, bool]]
    shared: list[tuple[int, int, int]]
    void: list[int]


def segment_overlaps(
    predicted: np.ndarray,
    predicted_categories: Mapping[int, int],
    truth: np.ndarray,
    truth_categories: Mapping[int, int],
    crowd: Sequence[int] = (),
) -> SegmentOverlaps:
    """Count the overlaps of one image.

    Args:
        predicted, truth: (height, width) segment ids, `VOID` where there is none. Ids without a
            category are void as well.
        predicted_categories, truth_categories: Category of each segment id.
        crowd: Ids of true segments that are crowds.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"a prediction of shape {predicted.shape} and a truth of {truth.shape}")
    pairs, pixels = np.unique(
        np.stack([predicted.ravel(), truth.ravel()]).astype(np.int64), axis=1, return_counts=True
    )

    def places(present: np.ndarray, known: Mapping[int, int]) -> dict[int, int]:
        ids = sorted(set(present.tolist()) & set(known) - {VOID})
        return {one: index for index, one in enumerate(ids)}

    own, true = places(pairs[0], predicted_categories), places(pairs[1], truth_categories)
    own_area, true_area, void = [0] * len(own), [0] * len(true), [0] * len(own)
    shared = []
    for mine, theirs, count in zip(*pairs.tolist(), pixels.tolist(), strict=True):
        i, j = own.get(mine), true.get(theirs)
        if i is not None:
            own_area[i] += count
        if j is not None:
            true_area[j] += count
        if i is not None and j is not None:
            shared.append((i, j, count))
        elif i is not None:
            void[i] += count
    return SegmentOverlaps(
        [(int(predicted_categories[one]), own_area[i]) for one, i in own.items()],
        [(int(truth_categories[one]), true_area[j], one in crowd) for one, j in true.items()],
        shared,
        void,
    )


def relabelled(
    image: SegmentOverlaps, mapping: Mapping[int, int], stuff: Sequence[int]
) -> SegmentOverlaps:
    """Give clusters their classes; what then is the same stuff becomes one segment.

    Clusters that are not in the mapping are dropped: their pixels count as not predicted.
    """
    place: dict[int, int] = {}  # old segment -> new segment
    merged: dict[int, int] = {}  # stuff class -> new segment
    predicted: list[list[int]] = []
    void: list[int] = []
    for index, (cluster, area) in enumerate(image.predicted):
        category = mapping.get(cluster)
        if category is None:
            continue
        if category in stuff and category in merged:
            place[index] = merged[category]
            predicted[place[index]][1] += area
            void[place[index]] += image.void[index]
            continue
        place[index] = len(predicted)
        if category in stuff:
            merged[category] = len(predicted)
        predicted.append([category, area])
        void.append(image.void[index])
    shared: dict[tuple[int, int], int] = {}
    for i, j, count in image.shared:
        if i in place:
            shared[place[i], j] = shared.get((place[i], j), 0) + count
    return SegmentOverlaps(
        [(category, area) for category, area in predicted],
        image.truth,
        [(i, j, count) for (i, j), count in shared.items()],
        void,
    )


def panoptic_counts(image: SegmentOverlaps, categories: Sequence[int]) -> np.ndarray:
    """(categories, 4): right, wrong and missed segments, and the sum of overlaps of right ones.

    Segments match when they are of one category and their intersection over union, void pixels
    left out, exceeds one half. A predicted segment that lies mostly on void or on a crowd of its
    category is not counted.
    """
    row = {category: index for index, category in enumerate(categories)}
    counts = np.zeros((len(categories), 4))
    found, taken = set(), set()
    excused = list(image.void)
    for i, j, pixels in image.shared:
        category, area = image.predicted[i]
        true_category, true_area, crowd = image.truth[j]
        if category != true_category or category not in row:
            continue
        if crowd:
            excused[i] += pixels
            continue
        overlap = pixels / (area + true_area - pixels - image.void[i])
        if overlap > 0.5:
            counts[row[category], 0] += 1
            counts[row[category], 3] += overlap
            found.add(j)
            taken.add(i)
    for j, (category, _, crowd) in enumerate(image.truth):
        if j not in found and not crowd and category in row:
            counts[row[category], 2] += 1
    for i, (category, area) in enumerate(image.predicted):
        if i not in taken and category in row and excused[i] <= 0.5 * area:
            counts[row[category], 1] += 1
    return counts


def quality(counts: np.ndarray) -> np.ndarray:
    """PQ, SQ and RQ, each the mean over categories that occur: (..., categories, 4) to (..., 3)."""
    right, wrong, missed, overlap = np.moveaxis(counts, -1, 0)
    weight = right + (wrong + missed) / 2
    occurs = weight > 0

    def mean(top: np.ndarray, below: np.ndarray) -> np.ndarray:
        each = np.divide(top, below, out=np.zeros_like(top), where=below > 0)
        number = occurs.sum(-1)
        total = (each * occurs).sum(-1)
        return np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)

    return np.stack([mean(overlap, weight), mean(overlap, right), mean(right, weight)], -1)


def panoptic_scores(
    counts: np.ndarray, things: np.ndarray, protocol: str, draws: int = DRAWS
) -> dict[str, Score]:
    """PQ, SQ and RQ over all categories, and PQ of things and of stuff.

    Args:
        counts: (images, categories, 4), see `panoptic_counts`.
        things: (categories,) booleans.
        protocol: Where predictions' categories come from.
    """
    images, categories, _ = counts.shape
    flat = counts.reshape(images, -1)

    def figure(column: int, chosen: np.ndarray) -> Any:
        def of(weights: np.ndarray) -> np.ndarray:
            total = (weights @ flat).reshape(len(weights), categories, 4)
            return quality(total[:, chosen])[:, column]

        return of

    every = np.ones(categories, bool)
    how = f"{protocol}; mean over categories that occur"
    return {
        key: resampled_score(title, images, figure(column, chosen), how, draws=draws)
        for key, title, column, chosen in (
            ("pq", "PQ", 0, every),
            ("sq", "SQ", 1, every),
            ("rq", "RQ", 2, every),
            ("pq_things", "PQ, things", 0, things),
            ("pq_stuff", "PQ, stuff", 0, ~things),
        )
    }


class PanopticQuality(Metric):
    """PQ, SQ and RQ.

    Args:
        things, stuff: Category ids.
    """

    is_differentiable = False
    full_state_update = False

    images: list[Any]

    def __init__(self, things: Sequence[int], stuff: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.things, self.stuff = list(things), list(stuff)
        self.add_state("images", default=[], dist_reduce_fx=None)

    def update(self, image: SegmentOverlaps) -> None:
        """Add one image; see `segment_overlaps`."""
        self.images.append(panoptic_counts(image, [*self.things, *self.stuff]))

    def compute(self) -> dict[str, Score]:
        """The scores so far."""
        categories = len(self.things) + len(self.stuff)
        counts = np.array(self.images).reshape(len(self.images), categories, 4)
        return panoptic_scores(counts, np.arange(categories) < len(self.things), "given categories")
