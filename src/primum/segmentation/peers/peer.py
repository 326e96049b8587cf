"""What every peer is: a picture in, a sweep of partitions from fine to coarse out."""

from __future__ import annotations

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from primum.segmentation.pictures import read_picture

if TYPE_CHECKING:
    from primum.segmentation.backbones import Backbone


class Shown(Protocol):
    """What a benchmark shows: a case whose `files` hold the picture under `image`."""

    files: Mapping[str, Path]


class Peer(ABC):
    """A method that cuts a picture into regions at several scales.

    It sits a benchmark by itself (`answer`), and tells what its answers depend on (`identity`).
    """

    @abstractmethod
    def partitions(self, image: np.ndarray) -> np.ndarray:
        """(scales, height, width) integer labels of a (height, width, 3) uint8 RGB picture."""

    def settings(self) -> dict[str, Any]:
        """The values its constructor was given."""
        names = inspect.signature(type(self)).parameters
        found = {name: getattr(self, name) for name in names}
        return {
            name: value.identity() if hasattr(value, "identity") else value
            for name, value in found.items()
        }

    def identity(self) -> dict[str, Any]:
        """Name and settings: what answers depend on."""
        words = type(self).__name__
        return {
            "name": "".join(f"_{c.lower()}" if c.isupper() else c for c in words).lstrip("_")
        } | {"settings": self.settings()}

    def answer(self, cases: Sequence[Shown], settings: object) -> list[dict[str, Any]]:
        """Sit a benchmark: a sweep of partitions a case, with the seconds it took."""
        answers = []
        for case in cases:
            image = read_picture(case.files["image"])
            start = time.perf_counter()
            partitions = self.partitions(image)
            answers.append({"partitions": partitions, "seconds": time.perf_counter() - start})
        return answers


class FeaturePeer(Peer):
    """A method that groups the tokens of a backbone's grid.

    Args:
        backbone: Where features come from; shared by all that are compared.
    """

    backbone: Backbone

    @property
    def network(self) -> Backbone:
        """What a trainer places on its device."""
        return self.backbone

    @abstractmethod
    def group(self, features: np.ndarray) -> np.ndarray:
        """(scales, rows, columns) labels of a (rows, columns, channels) grid of unit features."""

    def partitions(self, image: np.ndarray) -> np.ndarray:
        features = self.backbone.grid(image)
        return enlarged(self.group(features), image.shape[0], image.shape[1])


def enlarged(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Grid labels (..., rows, columns) as (..., height, width): each pixel takes its token's label.

    Labels are enlarged, never features: interpolated features make one region of everything.
    """
    rows, columns = labels.shape[-2:]
    y = (np.arange(height) * rows) // height
    x = (np.arange(width) * columns) // width
    return labels[..., y[:, None], x]


def compact(labels: np.ndarray) -> np.ndarray:
    """The same partition with labels 0..count-1."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def grid_pairs(rows: int, columns: int) -> np.ndarray:
    """(2, edges) tokens of each 4-neighbour edge of a grid."""
    token = np.arange(rows * columns).reshape(rows, columns)
    right = np.stack([token[:, :-1].ravel(), token[:, 1:].ravel()])
    down = np.stack([token[:-1].ravel(), token[1:].ravel()])
    return np.concatenate([right, down], 1)
