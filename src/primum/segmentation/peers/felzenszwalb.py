"""Graph-based segmentation (Felzenszwalb and Huttenlocher, 2004), by scikit-image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primum.extras import require
from primum.segmentation.peers.peer import Peer


class Felzenszwalb(Peer):
    """Regions whose inner contrast is small against the contrast to their neighbours.

    Args:
        scales: Preferences for larger regions, from fine to coarse. On intensities within 0..1,
            as scikit-image has them.
        sigma: Blur before, in pixels.
        smallest: Pixels a region needs.
    """

    def __init__(
        self,
        scales: Sequence[float] = tuple(np.geomspace(60, 2500, 12).round().tolist()),
        sigma: float = 0.8,
        smallest: int = 20,
    ) -> None:
        self.scales, self.sigma, self.smallest = tuple(scales), sigma, smallest

    def partitions(self, image: np.ndarray) -> np.ndarray:
        cut = require("skimage.segmentation", "segmentation").felzenszwalb
        return np.stack(
            [
                cut(image, scale=scale, sigma=self.sigma, min_size=self.smallest)
                for scale in self.scales
            ]
        )
