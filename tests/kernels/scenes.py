"""Grids of features that UniAP must get right, each (height, width, channels) float32."""

import numpy as np


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
