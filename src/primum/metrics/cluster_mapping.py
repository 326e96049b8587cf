"""What clusters mean: ways of giving each one a class, and the scores under that mapping.

"Hungarian matching" names several things in the literature; here each has its own name.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.extras import require
from primum.metrics.resampling import resampled_score
from primum.metrics.score import Score

UNMAPPED = -1
SEMANTIC_DRAWS = 200  # each fits the mapping again


def hungarian(confusion: np.ndarray) -> np.ndarray:
    """One cluster a class and one class a cluster, so that most pixels agree (linear assignment).

    Clusters beyond the number of classes mean nothing (-1) and are wrong wherever they occur.

    Args:
        confusion: (clusters, classes) pixels.

    Returns:
        (clusters,) classes.

    >>> hungarian(np.array([[5, 4], [4, 0], [0, 1]])).tolist()
    [1, 0, -1]
    """
    assign = require("scipy.optimize", "segmentation").linear_sum_assignment
    rows, columns = assign(confusion, maximize=True)
    mapping = np.full(len(confusion), UNMAPPED)
    mapping[rows] = columns
    return mapping


def many_to_one(confusion: np.ndarray) -> np.ndarray:
    """Each cluster means the class it shares most pixels with; an empty one means nothing.

    >>> many_to_one(np.array([[5, 4], [4, 0], [0, 0]])).tolist()
    [0, 0, -1]
    """
    return np.where(confusion.sum(1) > 0, confusion.argmax(1), UNMAPPED)


def hungarian_then_majority(confusion: np.ndarray) -> np.ndarray:
    """Linear assignment, and the clusters it leaves over as in `many_to_one`.

    >>> hungarian_then_majority(np.array([[5, 4], [4, 0], [0, 1]])).tolist()
    [1, 0, 1]
    """
    first = hungarian(confusion)
    return np.where(first == UNMAPPED, many_to_one(confusion), first)


def identity(confusion: np.ndarray) -> np.ndarray:
    """Clusters are classes already; numbers beyond the classes mean nothing."""
    clusters, classes = confusion.shape
    return np.where(np.arange(clusters) < classes, np.arange(clusters), UNMAPPED)


MAPPINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "hungarian": hungarian,
    "many_to_one": many_to_one,
    "hungarian_then_majority": hungarian_then_majority,
    "identity": identity,
}


def merged(confusion: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    """(classes, classes) pixels predicted as each class (rows), by true class (columns).

    Args:
        confusion: (clusters, classes).
        mapping: (clusters,) classes, -1 for none.
    """
    classes = confusion.shape[1]
    counts = np.zeros((classes, classes))
    known = mapping >= 0
    np.add.at(counts, mapping[known], confusion[known])
    return counts


def accuracy_and_miou(confusion: np.ndarray, mapping: np.ndarray) -> tuple[float, float]:
    """Share of labelled pixels that are right, and the mean overlap of classes that occur.

    A class occurs when it is true or predicted somewhere. Pixels of clusters that mean nothing are
    missing from every class.

    >>> accuracy_and_miou(np.array([[3, 1], [0, 4]]), np.array([0, 1]))
    (0.875, 0.775)
    """
    total = confusion.sum()
    if total == 0:
        return float("nan"), float("nan")
    counts = merged(confusion, mapping)
    right = np.diag(counts)
    union = counts.sum(1) + confusion.sum(0) - right
    return float(right.sum() / total), float(np.mean(right[union > 0] / union[union > 0]))


def semantic_scores(
    confusions: np.ndarray,
    mapping: str,
    *,
    fitted: np.ndarray | None = None,
    fitted_on: str = "the evaluated images",
    draws: int = SEMANTIC_DRAWS,
    protocol: str = "",
) -> dict[str, Score]:
    """Pixel accuracy and mIoU of clusters under a mapping.

    Args:
        confusions: (images, clusters + 1, classes) pixels; the last row has those without a
            prediction, see `pixel_confusion`.
        mapping: One of `MAPPINGS`.
        fitted: (clusters + 1, classes) pixels of other images that the mapping is fitted on once;
            without, it is fitted on the evaluated images, and again in every draw.
        fitted_on: What these are, for the protocol.
        draws: Bootstrap samples.
    """
    images, rows, classes = confusions.shape

    def fit(confusion: np.ndarray) -> np.ndarray:
        return np.append(MAPPINGS[mapping](confusion[:-1]), UNMAPPED)

    flat = confusions.reshape(images, -1).astype(float)
    known = None if fitted is None else fit(fitted)
    how = f"{mapping} mapping of {rows - 1} clusters to {classes} classes, fitted on {fitted_on}"
    how = f"{protocol}; {how}" if protocol else how
    cache: dict[bytes, np.ndarray] = {}

    def both(weights: np.ndarray) -> np.ndarray:
        key = weights.tobytes()
        if key not in cache:
            totals = (weights @ flat).reshape(len(weights), rows, classes)
            cache[key] = np.array(
                [accuracy_and_miou(one, fit(one) if known is None else known) for one in totals]
            )
        return cache[key]

    return {
        "pixel_accuracy": resampled_score(
            "pixel accuracy", images, lambda w: both(w)[:, 0], how, draws=draws
        ),
        "miou": resampled_score("mIoU", images, lambda w: both(w)[:, 1], how, draws=draws),
    }


def pixel_confusion(
    clusters: np.ndarray, truth: np.ndarray, num_clusters: int, num_classes: int
) -> np.ndarray:
    """(clusters + 1, classes) pixels of one image; unlabelled truth (negative) is left out.

    The last row holds pixels without a prediction (negative, or beyond the clusters).

    >>> pixel_confusion(np.array([[0, 1, -1]]), np.array([[0, -1, 1]]), 2, 2).tolist()
    [[1, 0], [0, 0], [0, 1]]
    """
    if clusters.shape != truth.shape:
        raise ValueError(f"clusters of shape {clusters.shape} and a truth of {truth.shape}")
    labelled = (truth >= 0) & (truth < num_classes)
    found = clusters[labelled].astype(np.int64)
    found = np.where((found < 0) | (found >= num_clusters), num_clusters, found)
    joint = found * num_classes + truth[labelled]
    counts = np.bincount(joint, minlength=(num_clusters + 1) * num_classes)
    return counts.reshape(num_clusters + 1, num_classes)


class ClusterSegmentation(Metric):
    """Pixel accuracy and mIoU of clusters under a named mapping.

    Args:
        num_clusters, num_classes: Sizes.
        mapping: One of `MAPPINGS`.
    """

    is_differentiable = False
    full_state_update = False

    confusions: list[Tensor]

    def __init__(
        self, num_clusters: int, num_classes: int, mapping: str = "hungarian", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_clusters, self.num_classes, self.mapping = num_clusters, num_classes, mapping
        self.add_state("confusions", default=[], dist_reduce_fx="cat")

    def update(self, clusters: Tensor, truth: Tensor) -> None:
        """Add one image: (height, width) clusters and classes, negative where there are none."""
        counts = pixel_confusion(
            clusters.cpu().numpy(), truth.cpu().numpy(), self.num_clusters, self.num_classes
        )
        self.confusions.append(torch.as_tensor(counts)[None])

    def compute(self) -> dict[str, Score]:
        """The scores so far."""
        if len(self.confusions) == 0:
            shape = (0, self.num_clusters + 1, self.num_classes)
            return semantic_scores(np.zeros(shape), self.mapping)
        return semantic_scores(dim_zero_cat(self.confusions).cpu().numpy(), self.mapping)
