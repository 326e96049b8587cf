"""Soft colours for nested regions: what lies in one parent has colours that are neighbours."""

from __future__ import annotations

import math

import numpy as np

from primum.segmentation.nested import Nested

TURN = math.pi * (3 - math.sqrt(5))  # the golden angle: any number of hues, none alike


def palette(nested: Nested) -> list[np.ndarray]:
    """(labels, 3) uint8 for each level.

    Regions of the last level are spread over all hues. A region's largest part keeps its colour and
    the others move away from it, less at each finer level, so that one sees what belongs together.
    """
    size = np.bincount(nested.finest.ravel(), minlength=nested.ladder.shape[1])
    lch: list[np.ndarray] = []
    for level in reversed(range(nested.levels)):
        row = nested.ladder[level]
        area = np.bincount(row, size)
        found = np.zeros((len(area), 3))
        order = np.argsort(-area, kind="stable")
        if not lch:
            for rank, label in enumerate(order.tolist()):
                found[label] = 0.78 - 0.05 * (rank % 3), 0.115, 4.1 + rank * TURN
        else:
            above = np.zeros(len(area), int)
            above[row] = nested.ladder[level + 1]
            seen = np.zeros(len(lch[-1]), int)
            for label in order.tolist():
                rank = seen[above[label]]
                seen[above[label]] += 1
                light, chroma, hue = lch[-1][above[label]]
                if rank:
                    hue += (1 if rank % 2 else -1) * (0.35 + 0.5 * math.sin(rank * TURN) ** 2)
                    light = float(np.clip(light + 0.09 * math.cos(rank * TURN * 2), 0.64, 0.88))
                found[label] = light, chroma, hue
        lch.append(found)
    return [srgb(found) for found in reversed(lch)]


def srgb(lch: np.ndarray) -> np.ndarray:
    """(rows, 3) lightness, chroma and hue (radians) of OKLCH as uint8 sRGB (Ottosson, 2020).

    >>> srgb(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
    [[255, 255, 255], [0, 0, 0]]
    """
    light, chroma, hue = lch.T
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack(
        [
            light + 0.3963377774 * a + 0.2158037573 * b,
            light - 0.1055613458 * a - 0.0638541728 * b,
            light - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    linear = (
        np.array(
            [
                [4.0767416621, -3.3077115913, 0.2309699292],
                [-1.2684380046, 2.6097574011, -0.3413193965],
                [-0.0041960863, -0.7034186147, 1.7076147010],
            ]
        )
        @ cone**3
    ).clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curved.T * 255).round().astype(np.uint8)
