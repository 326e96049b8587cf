"""UniAP a second time, from the formulas: NumPy in float64, explicit affinity, SciPy components."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

DEFAULTS: dict[str, Any] = dict(
    thresholds=(0.8, 0.7, 0.6, 0.5, 0.4), similarity="paper", rounds=1, pooling="vote",
    linkage="components", voters=1, vote_norm="mean", vote_scope="all", semantic=False,
    max_semantic=256, strict=False, weights=(0.6, 0.4), sigma=0.07, balance=0.0,
)  # fmt: skip


@dataclass
class Oracle:
    labels: list[np.ndarray] = field(default_factory=list)
    semantic: list[np.ndarray] = field(default_factory=list)
    scored: int = 0  # pairs compared with a threshold
    doubtful: int = 0  # of them closer to it than `band`


def normal(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def in_raster_order(labels: np.ndarray) -> np.ndarray:
    """Rename so that labels count up by first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def groups(size: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    graph = coo_matrix((np.ones(len(low)), (low, high)), (size, size))
    return connected_components(graph, directed=False)[1]


def hash16(low: int, high: int) -> int:
    mixed = (low * 40503 + high * 9973 + 12345) % 2**24
    mixed = ((mixed ^ (mixed >> 9)) * 23917) % 2**24
    return (((mixed ^ (mixed >> 11)) * 30011) >> 5) % 2**16


def uniap(image: np.ndarray, band: float = 1e-6, **given: Any) -> Oracle:
    """Labels of one image (height, width, channels), flat and in raster order."""
    o = DEFAULTS | given
    height, width, channels = image.shape
    tokens = normal(image.reshape(-1, channels).astype(np.float64))
    affinity = tokens @ tokens.T
    grid = np.arange(height * width).reshape(height, width)
    voting = grid[:: o["voters"], :: o["voters"]].ravel()
    pairs = np.concatenate(
        [
            np.c_[grid[:, :-1].ravel(), grid[:, 1:].ravel()],
            np.c_[grid[:-1].ravel(), grid[1:].ravel()],
        ]
    )
    labels, feature, result = grid.ravel(), tokens, Oracle()

    def similarities(member: np.ndarray, feature: np.ndarray, edges: np.ndarray) -> np.ndarray:
        alike = np.array([feature[i] @ feature[j] for i, j in edges])
        if o["similarity"] == "feature":
            area = member.sum(1)
            harmonic = np.array([2 / (1 / area[i] + 1 / area[j]) for i, j in edges])
            return 1 - (1 - alike) * (harmonic / (height * width / 2)) ** o["balance"]
        relation = (member @ affinity / member.sum(1, keepdims=True))[:, voting]
        gap = np.array([np.abs(relation[i] - relation[j]).mean() for i, j in edges])
        return o["weights"][0] * alike + o["weights"][1] * (1 - gap)

    def passes(similar: np.ndarray, threshold: float) -> np.ndarray:
        result.scored += len(similar)
        result.doubtful += int((np.abs(similar - threshold) < band).sum())
        return similar > threshold if o["strict"] else similar >= threshold

    def membership(labels: np.ndarray) -> np.ndarray:
        return (labels[None] == np.arange(labels.max() + 1)[:, None]).astype(np.float64)

    for threshold in o["thresholds"]:
        turn = 0
        while o["rounds"] == "until-stable" or turn < o["rounds"]:
            turn += 1
            member = membership(labels)
            edges = np.unique(np.sort(labels[pairs], 1), axis=0)
            edges = edges[edges[:, 0] != edges[:, 1]].reshape(-1, 2)
            similar = similarities(member, feature, edges) if len(edges) else np.zeros(0)
            keep = passes(similar, threshold)
            if o["rounds"] == "until-stable" and not keep.any():
                break
            if o["linkage"] == "reciprocal":
                first = member.argmax(1)
                best: dict[int, tuple[int, int]] = {}
                keys = {}
                for (i, j), value, kept in zip(edges, similar, keep, strict=True):
                    if kept:
                        low, high = sorted((int(first[i]), int(first[j])))
                        key = (int(np.rint(value * 2**16)), hash16(low, high))
                        keys[i, j] = key
                        best[i] = max(best.get(i, key), key)
                        best[j] = max(best.get(j, key), key)
                keep = np.array(
                    [(i, j) in keys and keys[i, j] == best[i] == best[j] for i, j in edges], bool
                )
            merged = groups(len(member), edges[keep, 0], edges[keep, 1])
            former, labels = labels, in_raster_order(merged[labels])
            member = membership(labels)
            if o["pooling"] == "sum":
                feature = normal(member @ tokens)
            elif o["pooling"] == "mean":
                owner = np.array([labels[former == one][0] for one in range(former.max() + 1)])
                feature = normal(
                    np.stack([feature[owner == k].mean(0) for k in range(len(member))])
                )
            else:
                logits = member @ affinity
                if o["vote_norm"] == "mean":
                    logits /= member.sum(1, keepdims=True)
                logits /= o["sigma"]
                weights = np.exp(logits - logits.max(1, keepdims=True))
                if o["vote_scope"] == "region":
                    inside = np.where(member > 0, logits, -np.inf)
                    weights = np.exp(inside - inside.max(1, keepdims=True))
                feature = normal(weights @ tokens / weights.sum(1, keepdims=True))
        result.labels.append(labels)
        if o["semantic"]:
            member = membership(labels)
            order = np.argsort(-member.sum(1), kind="stable")[: o["max_semantic"]]
            edges = np.array([(i, j) for n, i in enumerate(order) for j in order[:n]], int)
            edges = edges.reshape(-1, 2)
            similar = similarities(member, feature, edges) if len(edges) else np.zeros(0)
            keep = passes(similar, threshold)
            merged = groups(len(member), edges[keep, 0], edges[keep, 1])
            result.semantic.append(in_raster_order(merged[labels]))
    return result
