"""How well the regions of a sweep of partitions fit, for any order in which they are kept.

Overlaps come from joint histograms of labels, so no mask is ever made.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from primum.metrics.covering import overlaps


class SweepRegion(NamedTuple):
    """A region of a sweep of partitions.

    Attributes:
        scale: The first partition it occurs in.
        label: Its label there.
        pixels: Its size.
        persistence: In how many partitions it occurs.
    """

    scale: int
    label: int
    pixels: int
    persistence: int


#: Orders of the distinct regions of a sweep, the ones to keep first at the head.
RANKS: Mapping[str, Callable[[SweepRegion], tuple[int, ...]]] = {
    "area": lambda region: (-region.pixels,),
    "persistence": lambda region: (-region.persistence, -region.pixels),
}


def distinct_regions(partitions: np.ndarray) -> list[SweepRegion]:
    """The regions of several partitions, each once.

    Args:
        partitions: (scales, height, width) integer labels, not negative.

    >>> distinct_regions(np.array([[[0, 0, 1]], [[0, 0, 0]], [[4, 4, 4]]]))[-1]
    SweepRegion(scale=1, label=0, pixels=3, persistence=2)
    """
    # two regions are one when their pixels' random numbers add up alike; the sums are exact
    mark = np.random.default_rng(0).integers(1, 2**31, partitions[0].size).astype(np.float64)
    found: dict[tuple[int, float], SweepRegion] = {}
    for scale, partition in enumerate(partitions):
        flat = partition.ravel()
        pixels, sums = np.bincount(flat), np.bincount(flat, weights=mark)
        for label in np.nonzero(pixels)[0].tolist():
            key = (int(pixels[label]), float(sums[label]))
            known = found.get(key)
            found[key] = (
                SweepRegion(scale, label, key[0], 1)
                if known is None
                else known._replace(persistence=known.persistence + 1)
            )
    return list(found.values())


def sweep_overlaps(
    partitions: np.ndarray, truths: Sequence[np.ndarray], budgets: Sequence[int]
) -> tuple[dict[str, list[float]], int]:
    """Sums of best overlaps of all annotators' regions, for each order of the sweep's regions.

    Args:
        partitions: (scales, height, width) integer labels.
        truths: (height, width) integer labels, one an annotator.
        budgets: Masks an image may use.

    Returns:
        By order, a sum for each budget: `area` and `persistence` (see `RANKS`) over the distinct
        regions of all scales, and `scale_<i>` for the largest regions of that partition alone; and
        the number of annotators' regions.
    """
    tables = []  # a scale: (annotators' regions, labels)
    for partition in partitions:
        per_truth = []
        for truth in truths:
            overlap, pixels = overlaps(partition, truth)
            per_truth.append(overlap[pixels > 0])
        tables.append(np.concatenate(per_truth))
    regions = len(tables[0])

    def best(columns: Sequence[tuple[int, int]]) -> list[float]:
        chosen = np.zeros((regions, 1 + len(columns)))  # the first: nothing was found
        for place, (scale, label) in enumerate(columns, 1):
            chosen[:, place] = tables[scale][:, label]
        running = np.maximum.accumulate(chosen, axis=1)
        return [float(running[:, min(budget, len(columns))].sum()) for budget in budgets]

    most, sums = max(budgets), {}
    pooled = distinct_regions(partitions)
    for name, key in RANKS.items():
        kept = sorted(pooled, key=key)[:most]
        sums[name] = best([(region.scale, region.label) for region in kept])
    for scale, partition in enumerate(partitions):
        pixels = np.bincount(partition.ravel())
        largest = np.argsort(-pixels, kind="mergesort")[: min(most, int((pixels > 0).sum()))]
        sums[f"scale_{scale}"] = best([(scale, int(label)) for label in largest])
    return sums, regions
