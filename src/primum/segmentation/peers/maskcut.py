"""MaskCut: one foreground object after another by normalised cut (Wang et al., CutLER, 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from primum.extras import require
from primum.segmentation.peers.peer import FeaturePeer

if TYPE_CHECKING:
    from primum.segmentation.backbones import Backbone


class MaskCut(FeaturePeer):
    """Up to `count` objects; what was found is masked out before the next cut.

    Args:
        backbone: Where features come from; the paper takes the last keys of DINO ViT-B/8 at 480 px.
        count: Objects at most.
        threshold: Cosine above which two tokens are linked.
        solver: `lanczos` (fast) or `dense` (the authors' full generalised eigenproblem).
    """

    def __init__(
        self, backbone: Backbone, count: int = 3, threshold: float = 0.15, solver: str = "lanczos"
    ) -> None:
        self.backbone, self.count, self.threshold, self.solver = backbone, count, threshold, solver

    def group(self, features: np.ndarray) -> np.ndarray:
        """(count, rows, columns): partition s has the first s + 1 objects apart from the rest."""
        labels = np.zeros(features.shape[:2], np.int64)
        scales = []
        objects = maskcut(features, self.count, self.threshold, self.solver)
        for number in range(self.count):
            if number < len(objects):
                labels = np.where(objects[number] & (labels == 0), number + 1, labels)
            scales.append(labels)
        return np.stack(scales)

    def answer(self, cases: Sequence[Any], settings: object) -> list[dict[str, Any]]:
        """As any peer, with the objects themselves as masks."""
        answers = super().answer(cases, settings)
        for one in answers:
            last = one["partitions"][-1]
            found = np.unique(last[last > 0])
            one["masks"] = [
                {"segmentation": last == label, "score": 1 / label} for label in found.tolist()
            ]
        return answers


def maskcut(
    features: np.ndarray, count: int = 3, threshold: float = 0.15, solver: str = "lanczos"
) -> list[np.ndarray]:
    """Foreground masks (rows, columns) of a grid of unit features, in the order they are found.

    The second smallest generalised eigenvector of (D - W) x = lambda D x cuts the tokens at its
    mean. The side with the largest absolute entry is the foreground, unless it holds three corners
    of the picture; of it, the part connected to its own largest entry is kept.
    """
    label = require("scipy.ndimage", "segmentation").label
    rows, columns, channels = features.shape
    flat = features.reshape(-1, channels).astype(np.float64)
    left = np.ones(len(flat), bool)
    found: list[np.ndarray] = []
    for _ in range(count):
        shown = flat * left[:, None]
        affinity = np.where(shown @ shown.T > threshold, 1.0, 1e-5)
        second = fiedler(affinity, solver)
        side = second > second.mean()
        corners = side.reshape(rows, columns)[[0, 0, -1, -1], [0, -1, 0, -1]].sum()
        if corners >= 3 or not side[np.abs(second).argmax()]:
            side, second = ~side, -second
        side &= left
        if not side.any():
            break
        seed = int(np.where(side, second, -np.inf).argmax())
        parts, _ = label(side.reshape(rows, columns))
        mask = parts == parts.ravel()[seed]
        found.append(mask)
        left &= ~mask.ravel()
    return found


def fiedler(affinity: np.ndarray, solver: str) -> np.ndarray:
    """(tokens,) generalised eigenvector of the second smallest eigenvalue."""
    degree = affinity.sum(1)
    if solver == "dense":
        eigh = require("scipy.linalg", "segmentation").eigh
        return eigh(np.diag(degree) - affinity, np.diag(degree), subset_by_index=[1, 1])[1][:, 0]
    eigsh = require("scipy.sparse.linalg", "segmentation").eigsh
    scale = 1 / np.sqrt(degree)
    start = np.random.default_rng(0).standard_normal(len(degree))
    values, vectors = eigsh(scale[:, None] * affinity * scale, k=2, which="LA", v0=start)
    return scale * vectors[:, int(values.argmin())]
