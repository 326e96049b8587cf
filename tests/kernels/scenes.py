"""Grids of features that UniAP must get right, each (height, width, channels) float32."""

import itertools
from typing import Any

import numpy as np

from primum_kernels.agglomeration import PRESETS


def smooth(height: int, width: int, channels: int, seed: int, detail: float = 0.35) -> np.ndarray:
    """A few directions that fade into each other, with noise: edges at every similarity."""
    draw = np.random.default_rng(seed)
    seeds = draw.uniform(0, [height, width], (6, 2))
    place = np.stack(np.mgrid[:height, :width], -1)[:, :, None]
    near = np.exp(-np.square(place - seeds).sum(-1) / (0.05 * height * width + 1))
    base = near @ draw.standard_normal((6, channels))
    base /= np.linalg.norm(base, axis=-1, keepdims=True)
    noise = draw.standard_normal((height, width, channels)) / np.sqrt(channels)
    return (base + detail * noise).astype(np.float32)


def noise(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((height, width, channels)).astype(np.float32)


def spiral(side: int, channels: int = 8) -> np.ndarray:
    """One corridor that winds to the middle, a wall of another direction beside it."""
    corridor = np.zeros((side, side), int)
    row, column, step, turned = 0, 0, (0, 1), 0
    corridor[0, 0] = 1
    while turned < 2:
        ahead = (row + step[0], column + step[1])
        beyond = (ahead[0] + step[0], ahead[1] + step[1])
        inside = 0 <= ahead[0] < side and 0 <= ahead[1] < side
        into = 0 <= beyond[0] < side and 0 <= beyond[1] < side and corridor[beyond]
        if inside and not into and not corridor[ahead]:
            (row, column), turned = ahead, 0
            corridor[ahead] = 1
        else:
            step, turned = (step[1], -step[0]), turned + 1
    return np.eye(channels, dtype=np.float32)[corridor]


def comb(side: int, channels: int = 8) -> np.ndarray:
    """Teeth that meet in the last row only."""
    board = np.zeros((side, side), int)
    board[:, ::2] = 1
    board[-1] = 1
    return np.eye(channels, dtype=np.float32)[board]


def uniform(height: int, width: int, channels: int = 8) -> np.ndarray:
    return np.ones((height, width, channels), np.float32)


SCENES = {
    "smooth": smooth(7, 10, 12, 0),
    "smooth tall": smooth(13, 5, 9, 1),
    "noise": noise(6, 7, 16, 2),
    "row": smooth(1, 19, 8, 3),
    "column": smooth(17, 1, 8, 4),
    "one token": noise(1, 1, 5, 5),
    "spiral": spiral(9),
    "comb": comb(8),
    "uniform": uniform(6, 5),
}
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: dict(preset) for name, preset in PRESETS.items()},
    **{
        f"{pooling} {linkage} {rounds} {similarity}": dict(
            pooling=pooling, linkage=linkage, rounds=rounds, similarity=similarity, semantic=True
        )
        for pooling, linkage, rounds, similarity in itertools.product(
            ("vote", "mean", "sum"),
            ("components", "reciprocal"),
            (2, "until-stable"),
            ("paper", "feature"),
        )
    },
    "sharp vote": dict(vote_norm="sum", semantic=True),
    "vote inside": dict(vote_scope="region", voters=2),
    "sharp vote inside": dict(vote_scope="region", vote_norm="sum", rounds="until-stable"),
    "balanced": dict(similarity="feature", balance=0.5, pooling="mean", semantic=True),
    "few semantic": dict(semantic=True, max_semantic=3, strict=True),
}
