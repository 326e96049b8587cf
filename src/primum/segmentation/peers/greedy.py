"""Greedy merging of neighbouring regions, the conquer step of UnSAM (Wang et al., 2024)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from primum.segmentation.peers.peer import FeaturePeer, compact, grid_pairs

if TYPE_CHECKING:
    from primum.segmentation.backbones import Backbone


class GreedyMerging(FeaturePeer):
    """The most similar pair of neighbours merges, one pair after another, down to each threshold.

    Args:
        backbone: Where features come from.
        thresholds: Cosines at which a partition is kept, not rising.
    """

    def __init__(
        self,
        backbone: Backbone,
        thresholds: Sequence[float] = tuple(np.linspace(0.9, 0.1, 25).round(3).tolist()),
    ) -> None:
        self.backbone, self.thresholds = backbone, tuple(thresholds)

    def group(self, features: np.ndarray) -> np.ndarray:
        return greedy_merging(features, self.thresholds)


def greedy_merging(features: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """(thresholds, rows, columns) labels of a (rows, columns, channels) grid of unit features.

    A merged region's feature is the mean of its tokens, weighted by their number. A heap with
    outdated entries left in it makes it n log n instead of the n squared of a full search.
    """
    rows, columns, channels = features.shape
    count = rows * columns
    sums = np.zeros((2 * count, channels))  # of each region's tokens; a merger is a new node
    sums[:count] = features.reshape(count, channels)
    norms = np.linalg.norm(sums, axis=1)
    alive = np.arange(2 * count) < count
    root = np.arange(2 * count)  # where a node went
    neighbours: list[set[int]] = [set() for _ in range(count)]
    low, high = grid_pairs(rows, columns)
    alike = (sums[low] * sums[high]).sum(1) / (norms[low] * norms[high]).clip(1e-12)
    heap = list(zip((-alike).tolist(), low.tolist(), high.tolist(), strict=True))
    for _, a, b in heap:
        neighbours[a].add(b)
        neighbours[b].add(a)
    heapq.heapify(heap)
    new, scales = count, []
    for threshold in thresholds:
        while heap and -heap[0][0] >= threshold:
            _, a, b = heapq.heappop(heap)
            if not (alive[a] and alive[b]):
                continue
            sums[new] = sums[a] + sums[b]
            norms[new] = np.linalg.norm(sums[new])
            root[a] = root[b] = new
            alive[[a, b]], alive[new] = False, True
            around = list((neighbours[a] | neighbours[b]) - {a, b})
            neighbours.append(set(around))
            near = (sums[around] @ sums[new]) / (norms[around] * norms[new]).clip(1e-12)
            for other, cosine in zip(around, near.tolist(), strict=True):
                neighbours[other] -= {a, b}
                neighbours[other].add(new)
                heapq.heappush(heap, (-cosine, other, new))
            new += 1
        for node in range(new - 1, -1, -1):  # a node went to a newer one, whose place is known
            root[node] = root[root[node]]
        scales.append(compact(root[:count].reshape(rows, columns)))
    return np.stack(scales)
