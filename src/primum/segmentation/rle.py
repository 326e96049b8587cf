"""COCO run-length codes of every region of a label map, in one pass over its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from primum.extras import require


@dataclass(frozen=True)
class Runs:
    """The runs of one label in column order, as COCO counts pixels.

    Attributes:
        start, length: (runs,) of each run.
        size: Height and width of the picture.
    """

    start: np.ndarray
    length: np.ndarray
    size: tuple[int, int]

    def counts(self) -> list[int]:
        """Lengths of gaps and runs in turn, a gap first, as COCO writes them."""
        ends = self.start + self.length
        gaps = self.start - np.concatenate([[0], ends[:-1]])
        found = np.stack([gaps, self.length], 1).ravel().tolist()
        rest = self.size[0] * self.size[1] - int(ends[-1])
        return [*found, rest] if rest else found

    def compressed(self) -> dict[str, Any]:
        """`{"size", "counts"}` with compressed counts as text, as JSON holds them."""
        coco = require("pycocotools.mask", "segmentation")
        size = list(self.size)
        code = coco.frPyObjects({"counts": self.counts(), "size": size}, *size)
        return {"size": size, "counts": code["counts"].decode()}

    def mask(self) -> np.ndarray:
        """(height, width) bool."""
        flat = np.zeros(self.size[0] * self.size[1], bool)
        for start, length in zip(self.start.tolist(), self.length.tolist(), strict=True):
            flat[start : start + length] = True
        return flat.reshape(self.size[1], self.size[0]).T

    def point(self) -> tuple[int, int]:
        """Column and row of a pixel inside: the middle one in column order."""
        before = np.cumsum(self.length)
        middle = int(before[-1]) // 2
        run = int(np.searchsorted(before, middle, side="right"))
        place = int(self.start[run]) + middle - int(before[run] - self.length[run])
        return place // self.size[0], place % self.size[0]


def runs(labels: np.ndarray) -> Iterator[tuple[int, Runs]]:
    """Each label that occurs in a (height, width) map, in rising order, with its runs.

    >>> found = dict(runs(np.array([[0, 1], [0, 0]])))
    >>> found[0].counts(), found[1].counts()
    ([0, 2, 1, 1], [2, 1, 1])
    """
    flat = labels.T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    size = (labels.shape[0], labels.shape[1])
    for rows in np.split(order, cuts):
        yield int(values[rows[0]]), Runs(starts[rows], lengths[rows], size)
