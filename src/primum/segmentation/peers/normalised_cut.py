"""Normalised cut of a feature grid (Shi and Malik, 2000), into any number of regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from primum.extras import require
from primum.segmentation.peers.peer import FeaturePeer

if TYPE_CHECKING:
    from primum.segmentation.backbones import Backbone


class NormalisedCut(FeaturePeer):
    """Spectral clustering of tokens: leading eigenvectors, then k-means, k regions a scale.

    Args:
        backbone: Where features come from.
        counts: Regions asked for, from fine to coarse.
        temperature: Affinity is exp((cosine - 1) / temperature).
        radius: Tokens farther apart than so many rows or columns are not linked; None links all.
        seed: Of k-means' starts.
    """

    def __init__(
        self,
        backbone: Backbone,
        counts: Sequence[int] = (60, 40, 28, 20, 14, 10, 8, 6, 5, 4, 3, 2),
        temperature: float = 0.1,
        radius: int | None = 5,
        seed: int = 0,
    ) -> None:
        self.backbone, self.counts = backbone, tuple(counts)
        self.temperature, self.radius, self.seed = temperature, radius, seed

    def group(self, features: np.ndarray) -> np.ndarray:
        rows, columns, _ = features.shape
        vectors = leading_eigenvectors(
            features, min(max(self.counts), rows * columns - 2), self.temperature, self.radius
        )
        cluster = require("sklearn.cluster", "segmentation").KMeans
        scales = []
        for count in self.counts:
            own = vectors[:, : max(2, min(count, vectors.shape[1]))]
            own = own / np.linalg.norm(own, axis=1, keepdims=True).clip(1e-12)
            made = cluster(min(count, len(own)), n_init=1, max_iter=50, random_state=self.seed)
            scales.append(made.fit_predict(own).reshape(rows, columns))
        return np.stack(scales)


def leading_eigenvectors(
    features: np.ndarray, count: int, temperature: float, radius: int | None
) -> np.ndarray:
    """(tokens, count) eigenvectors of the normalised affinity with the largest eigenvalues.

    Args:
        features: (rows, columns, channels), unit length.
        radius: Reach of a link in rows and columns; None: every pair is linked.
    """
    sparse = require("scipy.sparse", "segmentation")
    solve = require("scipy.sparse.linalg", "segmentation").eigsh
    rows, columns, channels = features.shape
    flat = features.reshape(-1, channels).astype(np.float64)
    if radius is None:
        affinity = np.exp((flat @ flat.T - 1) / temperature)
        scale = 1 / np.sqrt(affinity.sum(1))
        normalised = scale[:, None] * affinity * scale
    else:
        affinity = local_affinity(features, temperature, radius)
        scale = sparse.diags(1 / np.sqrt(np.asarray(affinity.sum(1)).ravel()))
        normalised = scale @ affinity @ scale
    start = np.random.default_rng(0).standard_normal(rows * columns)
    values, vectors = solve(normalised, k=count, which="LA", v0=start, tol=1e-4)
    return vectors[:, np.argsort(-values)]


def local_affinity(features: np.ndarray, temperature: float, radius: int):  # type: ignore[no-untyped-def]
    """Sparse (tokens, tokens) affinity of tokens within `radius` rows and columns."""
    sparse = require("scipy.sparse", "segmentation")
    rows, columns, _ = features.shape
    token = np.arange(rows * columns).reshape(rows, columns)
    ends, weights = [], []
    for dy in range(radius + 1):
        for dx in range(-radius, radius + 1):
            if dy == 0 and dx <= 0:
                continue
            left, right = max(0, -dx), columns - max(0, dx)
            if dy >= rows or left >= right:
                continue
            one = features[: rows - dy, left:right]
            other = features[dy:, left + dx : right + dx]
            weights.append(np.exp(((one * other).sum(-1).ravel() - 1) / temperature))
            ends.append(
                (token[: rows - dy, left:right].ravel(), token[dy:, left + dx : right + dx].ravel())
            )
    low, high = (np.concatenate(side) for side in zip(*ends, strict=True))
    values = np.concatenate(weights).astype(np.float64)
    half = sparse.coo_matrix((values, (low, high)), shape=(token.size, token.size))
    return (half + half.T + sparse.identity(token.size)).tocsr()
