"""Borders of a token grid, moved to the edges of the picture beside them."""

from __future__ import annotations

import numpy as np

from primum.extras import require
from primum.segmentation.peers.peer import enlarged

LONGEST = 1024  # pixels of the longer side at which edges are looked for
REACH = 0.75  # tokens a border may move


def snapped(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of a grid as (height, width) labels whose borders lie on edges of the picture.

    What lies deep inside a region stays; the band around borders is flooded from both sides over
    the picture's gradient (watershed, Meyer 1991). Regions too thin to have an inside keep the
    centres of their tokens. Pictures larger than `LONGEST` are looked at in that size.

    Args:
        image: (height, width, 3) uint8.
        labels: (rows, columns) of its tokens, 0..count-1.
    """
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    tall, wide = (max(1, round(side * scale)) for side in (height, width))
    rows, columns = labels.shape
    if tall < 2 * rows or wide < 2 * columns or labels.max(initial=0) == 0:
        return enlarged(labels, height, width)
    filters = require("scipy.ndimage", "segmentation")
    shown = shrunk(image, tall, wide)
    whole = enlarged(labels, tall, wide)
    window = [2 * max(1, round(REACH * side)) + 1 for side in (tall / rows, wide / columns)]
    high = filters.maximum_filter(whole, window, mode="nearest")
    low = filters.minimum_filter(whole, window, mode="nearest")
    inside = high == low
    present = np.zeros(int(labels.max()) + 1, bool)
    present[whole[inside]] = True
    thin = ~present[whole] & centres(tall, rows)[:, None] & centres(wide, columns)[None]
    seeds = np.where(inside | thin, whole + 1, 0)
    flood = require("skimage.segmentation", "segmentation").watershed
    found = flood(gradient(shown), seeds).astype(labels.dtype) - 1
    return enlarged(found, height, width)


def centres(pixels: int, tokens: int) -> np.ndarray:
    """(pixels,) bool: whether a pixel lies in the middle third of its token along one side.

    >>> centres(6, 2).tolist()
    [False, True, False, False, True, False]
    """
    within = (np.arange(pixels) + 0.5) * tokens / pixels % 1
    return np.abs(within - 0.5) <= max(1 / 6, 0.5 * tokens / pixels)


def gradient(image: np.ndarray) -> np.ndarray:
    """(height, width) float32 strength of the edges in CIELAB."""
    filters = require("scipy.ndimage", "segmentation")
    lab = require("skimage.color", "segmentation").rgb2lab(image).astype(np.float32)
    lab = filters.gaussian_filter(lab, (1, 1, 0))
    steps = [filters.sobel(lab, axis) for axis in (0, 1)]
    return np.sqrt((steps[0] ** 2 + steps[1] ** 2).sum(-1))


def shrunk(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A uint8 picture in another size, averaged where it becomes smaller."""
    if image.shape[:2] == (height, width):
        return image
    picture = require("PIL.Image", "vision").fromarray(image)
    return np.asarray(picture.resize((width, height)))
