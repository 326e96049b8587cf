"""SLIC superpixels (Achanta et al., 2012), by scikit-image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primum.extras import require
from primum.segmentation.peers.peer import Peer, compact


class Slic(Peer):
    """K-means over colour and place.

    Args:
        counts: Superpixels asked for, from fine to coarse.
        compactness: Weight of place against colour.
    """

    def __init__(
        self,
        counts: Sequence[int] = (200, 100, 60, 40, 28, 20, 14, 10, 7, 5, 3, 2),
        compactness: float = 10.0,
    ) -> None:
        self.counts, self.compactness = tuple(counts), compactness

    def partitions(self, image: np.ndarray) -> np.ndarray:
        slic = require("skimage.segmentation", "segmentation").slic
        return np.stack(
            [
                compact(slic(image, n_segments=count, compactness=self.compactness, start_label=0))
                for count in self.counts
            ]
        )
