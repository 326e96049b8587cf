"""How well the regions of a sweep of partitions fit, for any order in which they are kept.

Overlaps come from joint histograms of labels, so no mask is ever made.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from primum.metrics.covering import overlaps, pieces


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
RANKS: Mapping[str, Callable[[SweepRegion], tuple[float, ...]]] = {
    "area": lambda region: (-region.pixels,),
    "persistence": lambda region: (-region.persistence, -region.pixels),
    "extent": lambda region: (-region.persistence * region.pixels**0.5,),
}
APART = 0.7  # `<order>_apart` leaves out what overlaps an earlier region by more
POOL = 500  # regions of an order that are looked at for it


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


def atoms(partitions: np.ndarray, regions: Sequence[SweepRegion]) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces of the picture each region has.

    Returns:
        (regions, pieces) 0 or 1, and (pieces,) pixels; a piece lies in one region of every scale.

    >>> sweep = np.array([[[0, 0, 1]], [[0, 1, 1]]])
    >>> atoms(sweep, distinct_regions(sweep))[0].sum(1)
    array([2., 1., 1., 2.], dtype=float32)
    """
    piece, labels = pieces(partitions)
    scale = np.array([region.scale for region in regions])
    label = np.array([region.label for region in regions])
    return (labels[scale] == label[:, None]).astype(np.float32), np.bincount(piece)


def apart(order: Sequence[int], overlap: np.ndarray, most: int) -> list[int]:
    """The first `most` of `order` without those that an earlier one overlaps by more than APART.

    >>> apart([2, 0, 1], np.array([[1, 0.2, 0.8], [0.2, 1, 0.1], [0.8, 0.1, 1]]), 9)
    [2, 1]
    """
    kept: list[int] = []
    free = np.ones(len(overlap), bool)
    for one in order:
        if free[one]:
            kept.append(one)
            if len(kept) == most:
                break
            free &= overlap[one] <= APART
    return kept


def ordered(partitions: np.ndarray, most: int) -> dict[str, list[SweepRegion]]:
    """The first `most` distinct regions of a sweep in every order of `RANKS`, plain and apart."""
    pooled = distinct_regions(partitions)
    sums: dict[str, list[SweepRegion]] = {}
    plain = {name: sorted(pooled, key=key) for name, key in RANKS.items()}
    looked = list(dict.fromkeys(r for found in plain.values() for r in found[:POOL]))
    member, pixels = atoms(partitions, looked)
    shared = (member * pixels.astype(np.float32)) @ member.T
    size = np.diag(shared)
    overlap = shared / (size[:, None] + size[None] - shared)
    place = {region: index for index, region in enumerate(looked)}
    for name, found in plain.items():
        sums[name] = found[:most]
        kept = apart([place[region] for region in found[:POOL]], overlap, most)
        sums[f"{name}_apart"] = [looked[index] for index in kept]
    return sums


def sweep_overlaps(
    partitions: np.ndarray, truths: Sequence[np.ndarray], budgets: Sequence[int]
) -> tuple[dict[str, list[float]], int]:
    """Sums of best overlaps of all annotators' regions, for each order of the sweep's regions.

    Args:
        partitions: (scales, height, width) integer labels.
        truths: (height, width) integer labels, one an annotator.
        budgets: Masks an image may use.

    Returns:
        By order, a sum for each budget: those of `ordered` over the distinct regions of all scales,
        and `scale_<i>` for the largest regions of that partition alone; and the number of
        annotators' regions.
    """
    found = overlaps(partitions, truths)
    tables, regions = found.tables, len(found.pixels)

    def best(columns: Sequence[tuple[int, int]]) -> list[float]:
        chosen = np.zeros((regions, 1 + len(columns)))  # the first: nothing was found
        for place, (scale, label) in enumerate(columns, 1):
            chosen[:, place] = tables[scale][:, label]
        running = np.maximum.accumulate(chosen, axis=1)
        return [float(running[:, min(budget, len(columns))].sum()) for budget in budgets]

    most, sums = max(budgets), {}
    for name, kept in ordered(partitions, most).items():
        sums[name] = best([(region.scale, region.label) for region in kept])
    for scale, partition in enumerate(partitions):
        pixels = np.bincount(partition.ravel())
        largest = np.argsort(-pixels, kind="mergesort")[: min(most, int((pixels > 0).sum()))]
        sums[f"scale_{scale}"] = best([(scale, int(label)) for label in largest])
    return sums, regions
