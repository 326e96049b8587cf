"""Specks of a partition, given to the neighbour that they look like most."""

from __future__ import annotations

import heapq

import numpy as np

from primum.segmentation.peers.peer import grid_pairs


def absorbed(labels: np.ndarray, features: np.ndarray, smallest: int) -> np.ndarray:
    """Which region each region becomes when none may be smaller than `smallest` tokens.

    The smallest goes first, to the neighbour whose mean feature has the highest cosine with its
    own; a region that has grown enough by then stays.

    Args:
        labels: (rows, columns) 0..count-1.
        features: (rows, columns, channels), unit length.

    Returns:
        (count,) labels; every region that is left keeps its own.
    """
    count = int(labels.max()) + 1
    flat = labels.ravel()
    area = np.bincount(flat, minlength=count)
    owner = np.arange(count)
    small = np.flatnonzero(area < smallest)
    if not len(small) or count == 1:
        return owner
    sums = np.zeros((count, features.shape[-1]), np.float32)
    np.add.at(sums, flat, features.reshape(-1, features.shape[-1]))
    near: list[set[int]] = [set() for _ in range(count)]
    ends = flat[grid_pairs(*labels.shape)]
    for low, high in np.unique(np.sort(ends[:, ends[0] != ends[1]], 0), axis=1).T.tolist():
        near[low].add(high)
        near[high].add(low)
    queue = [(int(area[label]), int(label)) for label in small]
    heapq.heapify(queue)
    while queue:
        size, label = heapq.heappop(queue)
        if owner[label] != label or size != area[label] or not near[label]:
            continue  # it was taken, has grown since, or is all there is
        others = sorted(near[label])
        alike = sums[others] @ sums[label] / np.linalg.norm(sums[others], axis=1).clip(1e-12)
        target = others[int(np.argmax(alike))]
        owner[label] = target
        area[target] += area[label]
        sums[target] += sums[label]
        for other in near[label]:
            near[other].discard(label)
        near[target] |= near[label] - {target}
        for other in near[label] - {target}:
            near[other].add(target)
        if area[target] < smallest:
            heapq.heappush(queue, (int(area[target]), target))
    while (owner != owner[owner]).any():
        owner = owner[owner]
    return owner
