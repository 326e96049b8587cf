"""Segmentation covering of human partitions, over a sweep of scales (Arbelaez et al., 2011)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.resampling import resampled_score
from primum.metrics.score import Score

PROTOCOL = "covering of the annotators' regions (Arbelaez et al. 2011)"


class CoveringCounts(NamedTuple):
    """What one image adds.

    Attributes:
        covered: (scales,) sum over annotators' regions of pixels times the best overlap at that
            scale.
        best: The same with each region's best overlap over all scales.
        total: Pixels of all annotators' regions.
    """

    covered: np.ndarray
    best: float
    total: float


class Overlaps(NamedTuple):
    """How the regions of a sweep and of annotators lie over each other.

    Attributes:
        tables: A scale: (annotators' regions, labels) intersection over union; 0 for a label that
            does not occur.
        pixels: (annotators' regions,) of each region.
    """

    tables: list[np.ndarray]
    pixels: np.ndarray


def pieces(partitions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a picture where any partition does, so that the rest can be counted by pieces.

    Args:
        partitions: (scales, height, width) integer labels, not negative.

    Returns:
        The piece of each pixel, (height * width,), and labels (scales, pieces).

    >>> sorted(pieces(np.array([[[0, 0, 1]], [[0, 1, 1]]]))[1].T.tolist())
    [[0, 0], [0, 1], [1, 1]]
    """
    draw = np.random.default_rng(0)
    marks = np.zeros(partitions[0].size, np.uint64)  # pixels of one piece add up alike
    for partition in partitions:
        mark = draw.integers(2**63, size=int(partition.max()) + 1, dtype=np.uint64)
        marks += mark[partition.ravel()]
    _, first, piece = np.unique(marks, return_index=True, return_inverse=True)
    return piece, partitions.reshape(len(partitions), -1)[:, first]


def overlaps(partitions: np.ndarray, truths: Sequence[np.ndarray]) -> Overlaps:
    """Intersection over union of every annotator's region with every region of a sweep.

    Args:
        partitions: (scales, height, width) integer labels, not negative.
        truths: (height, width) integer labels, one an annotator.

    >>> overlaps(np.array([[[0, 0, 1, 1]]]), [np.array([[0, 0, 0, 1]])]).tables[0].round(2)
    array([[0.67, 0.25],
           [0.  , 0.5 ]])
    """
    piece, labels = pieces(partitions)
    count = labels.shape[1]
    joint = []
    for truth in truths:
        if partitions.shape[1:] != truth.shape:
            raise ValueError(
                f"partitions of shape {partitions.shape[1:]} and a truth of {truth.shape}"
            )
        code = truth.ravel().astype(np.int64) * count + piece
        rows = np.bincount(code, minlength=(int(truth.max()) + 1) * count).reshape(-1, count)
        joint.append(rows[rows.any(1)])
    shared = np.concatenate(joint).astype(np.float64)
    pixels, size = shared.sum(1), np.bincount(piece).astype(np.float64)
    tables = []
    for own in labels:
        order = np.argsort(own, kind="stable")
        start = np.flatnonzero(np.diff(own[order], prepend=-1))
        table = np.zeros((len(shared), int(own.max()) + 1))
        found = own[order[start]]
        inside = np.add.reduceat(shared[:, order], start, axis=1)
        area = np.add.reduceat(size[order], start)
        table[:, found] = inside / (pixels[:, None] + area - inside)
        tables.append(table)
    return Overlaps(tables, pixels)


def covering_counts(partitions: np.ndarray, truths: Sequence[np.ndarray]) -> CoveringCounts:
    """Count one image.

    Args:
        partitions: (scales, height, width) integer labels, a full partition each.
        truths: (height, width) integer labels, one an annotator.

    >>> truth = np.array([[0, 0, 1, 1]])
    >>> covering_counts(np.array([[[0, 0, 0, 0]], [[0, 0, 1, 1]]]), [truth])
    CoveringCounts(covered=array([2., 4.]), best=4.0, total=4.0)
    """
    found = overlaps(partitions, truths)
    best = np.stack([table.max(1) for table in found.tables])
    return CoveringCounts(
        best @ found.pixels, float(best.max(0) @ found.pixels), float(found.pixels.sum())
    )


def ods(covered: np.ndarray, total: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Covering at the scale that is best for the whole (re)sample: (draws,).

    Args:
        covered: (images, scales); `total`: (images,); `weights`: (draws, images).
    """
    return (weights @ covered).max(1) / (weights @ total)


def ois(covered: np.ndarray, total: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Covering at each image's own best scale: (draws,)."""
    return (weights @ covered.max(1)) / (weights @ total)


def covering_scores(
    covered: np.ndarray, best: np.ndarray, total: np.ndarray, protocol: str = PROTOCOL
) -> dict[str, Score]:
    """ODS (one scale for all images), OIS (each image its best) and best (each region its best).

    Args:
        covered: (images, scales); `best`, `total`: (images,).
    """
    images = len(total)
    if images == 0:
        return {
            key: Score.unavailable(f"covering, {key.upper()}", "no images", True, "proportion")
            for key in ("ods", "ois", "best")
        }
    scale = int(covered.sum(0).argmax())
    return {
        "ods": resampled_score(
            "covering, ODS", images, lambda w: ods(covered, total, w),
            f"{protocol}, at the one scale that is best for all (number {scale + 1} of "
            f"{covered.shape[1]}; chosen again in every draw)",
        ),
        "ois": resampled_score(
            "covering, OIS", images, lambda w: ois(covered, total, w),
            f"{protocol}, at each image's best scale",
        ),
        "best": resampled_score(
            "covering, best", images, lambda w: (w @ best) / (w @ total),
            f"{protocol}, each region's best overlap over all scales",
        ),
    }  # fmt: skip


class Covering(Metric):
    """Covering of images' human partitions by a sweep of partitions; see `covering_scores`.

    >>> metric = Covering()
    >>> truth = torch.tensor([[0, 0, 1, 1]])
    >>> metric.update(truth[None], [truth])
    >>> print(metric.compute()["ods"])
    100.0 % [100.0, 100.0], n = 1
    """

    is_differentiable = False
    full_state_update = False

    covered: list[Tensor]
    best: list[Tensor]
    total: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for state in ("covered", "best", "total"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, partitions: Tensor, truths: Sequence[Tensor]) -> None:
        """Add one image: (scales, height, width) and one (height, width) an annotator."""
        counts = covering_counts(
            partitions.cpu().numpy(), [truth.cpu().numpy() for truth in truths]
        )
        self.covered.append(torch.as_tensor(counts.covered)[None])
        self.best.append(torch.tensor([counts.best], dtype=torch.float64))
        self.total.append(torch.tensor([counts.total], dtype=torch.float64))

    def compute(self) -> dict[str, Score]:
        """The scores so far."""
        if len(self.total) == 0:
            return covering_scores(np.zeros((0, 1)), np.zeros(0), np.zeros(0))
        covered, best, total = (
            dim_zero_cat(state).cpu().numpy() for state in (self.covered, self.best, self.total)
        )
        return covering_scores(covered, best, total)
