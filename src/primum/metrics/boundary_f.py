"""Boundary precision and recall against human boundaries (Martin, Fowlkes and Malik, 2004)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.extras import require
from primum.metrics.resampling import resampled_score
from primum.metrics.score import Score

TOLERANCE = 0.0075  # of the image's diagonal, as in the BSDS benchmark
PROTOCOL = (
    f"boundary pixels matched one to one within {TOLERANCE} of the diagonal (maximum matching)"
)


class BoundaryCounts(NamedTuple):
    """What one image adds, each (scales,): matched and all pixels of annotators and candidate.

    Attributes:
        found: Annotators' boundary pixels that were matched, summed over annotators.
        truth: Annotators' boundary pixels, summed over annotators.
        right: The candidate's boundary pixels that match at least one annotator.
        drawn: The candidate's boundary pixels.
    """

    found: np.ndarray
    truth: np.ndarray
    right: np.ndarray
    drawn: np.ndarray


def boundary(labels: np.ndarray) -> np.ndarray:
    """Thin boundary of a partition: pixels whose right or lower neighbour has another label.

    >>> boundary(np.array([[0, 0, 1], [0, 0, 1]])).astype(int)
    array([[0, 1, 0],
           [0, 1, 0]])
    """
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return require("skimage.morphology", "segmentation").thin(edge) if edge.any() else edge


def matched(first: np.ndarray, second: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of two boundary maps in a largest one-to-one matching of pixels within `radius`.

    Args:
        first, second: (height, width) booleans.
        radius: Pixels.

    Returns:
        Two maps like the inputs: which of their pixels were matched.
    """
    sparse = require("scipy.sparse", "segmentation")
    graph = require("scipy.sparse.csgraph", "segmentation")
    height, width = first.shape
    index = np.full((height, width), -1)
    index[second] = np.arange(second.sum())
    y, x = np.nonzero(first)
    reach = int(radius)
    rows, columns = [], []
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx > radius * radius:
                continue
            inside = (y >= -dy) & (y < height - dy) & (x >= -dx) & (x < width - dx)
            row = np.nonzero(inside)[0]
            other = index[y[row] + dy, x[row] + dx]
            rows.append(row[other >= 0])
            columns.append(other[other >= 0])
    of_first, of_second = np.zeros_like(first), np.zeros_like(second)
    if not rows or not (total := sum(map(len, rows))):
        return of_first, of_second
    pairs = sparse.csr_matrix(
        (np.ones(total, np.int8), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(y), int(second.sum())),
    )
    partner = graph.maximum_bipartite_matching(pairs, perm_type="column")  # (first pixels,)
    hit = partner >= 0
    of_first[y[hit], x[hit]] = True
    v, u = np.nonzero(second)
    of_second[v[partner[hit]], u[partner[hit]]] = True
    return of_first, of_second


def boundary_counts(
    partitions: np.ndarray, truths: Sequence[np.ndarray], tolerance: float = TOLERANCE
) -> BoundaryCounts:
    """Count one image: (scales, height, width) labels against (height, width) an annotator."""
    radius = tolerance * float(np.hypot(*partitions.shape[1:]))
    edges = [boundary(truth) for truth in truths]
    found, truth, right, drawn = np.zeros((4, len(partitions)))
    for scale, partition in enumerate(partitions):
        own = boundary(partition)
        agreed = np.zeros_like(own)
        for edge in edges:
            mine, theirs = matched(own, edge, radius)
            agreed |= mine
            found[scale] += theirs.sum()
            truth[scale] += edge.sum()
        right[scale], drawn[scale] = agreed.sum(), own.sum()
    return BoundaryCounts(found, truth, right, drawn)


def f_measure(counts: BoundaryCounts) -> np.ndarray:
    """Harmonic mean of precision and recall; counts may have any shape.

    An image that has no boundary, and where none was drawn, scores 1.
    """
    recall = np.divide(counts.found, counts.truth, out=np.ones_like(counts.found),
                       where=counts.truth > 0)  # fmt: skip
    precision = np.divide(counts.right, counts.drawn, out=np.ones_like(counts.right),
                          where=counts.drawn > 0)  # fmt: skip
    both = precision + recall
    return np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)


def boundary_scores(counts: BoundaryCounts, protocol: str = PROTOCOL) -> dict[str, Score]:
    """F at the best scale for all images (ODS) and at each image's best scale (OIS).

    Args:
        counts: Each (images, scales).
    """
    images = len(counts.found)
    best = f_measure(counts).argmax(1) if images else np.zeros(0, int)
    own = BoundaryCounts(*(column[np.arange(images), best] for column in counts))

    def at_one_scale(weights: np.ndarray) -> np.ndarray:
        return f_measure(BoundaryCounts(*(weights @ column for column in counts))).max(1)

    def at_own_scale(weights: np.ndarray) -> np.ndarray:
        return f_measure(BoundaryCounts(*(weights @ column for column in own)))

    return {
        "boundary_ods": resampled_score(
            "boundary F, ODS", images, at_one_scale, f"{protocol}, one scale for all images"
        ),
        "boundary_ois": resampled_score(
            "boundary F, OIS", images, at_own_scale, f"{protocol}, each image's best scale"
        ),
    }


class BoundaryF(Metric):
    """Boundary F of a sweep of partitions against several annotators."""

    is_differentiable = False
    full_state_update = False

    found: list[Tensor]
    truth: list[Tensor]
    right: list[Tensor]
    drawn: list[Tensor]

    def __init__(self, tolerance: float = TOLERANCE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance
        for state in BoundaryCounts._fields:
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, partitions: Tensor, truths: Sequence[Tensor]) -> None:
        """Add one image: (scales, height, width) and one (height, width) an annotator."""
        counts = boundary_counts(
            partitions.cpu().numpy(), [truth.cpu().numpy() for truth in truths], self.tolerance
        )
        for state, column in counts._asdict().items():
            getattr(self, state).append(torch.as_tensor(column)[None])

    def compute(self) -> dict[str, Score]:
        """`boundary_ods` and `boundary_ois` so far."""
        if len(self.found) == 0:
            return boundary_scores(BoundaryCounts(*np.zeros((4, 0, 1))))
        columns = (dim_zero_cat(getattr(self, one)).cpu().numpy() for one in BoundaryCounts._fields)
        return boundary_scores(BoundaryCounts(*columns))
