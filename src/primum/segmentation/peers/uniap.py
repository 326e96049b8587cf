"""UniAP in the shape of its peers: a sweep of partitions of the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from primum.segmentation.peers.peer import FeaturePeer

if TYPE_CHECKING:
    from primum.segmentation.backbones import Backbone


class UniapSweep(FeaturePeer):
    """`primum_kernels.agglomerate` at many thresholds, so that ODS has scales to choose from.

    Args:
        backbone: Where features come from.
        preset: One of `primum_kernels.agglomeration.PRESETS`.
        thresholds: A level each, not rising.
        options: Changes to the preset.
    """

    def __init__(
        self,
        backbone: Backbone,
        preset: str = "recommended",
        thresholds: Sequence[float] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone, self.preset = backbone, preset
        self.thresholds = None if thresholds is None else tuple(thresholds)
        self.options = dict(options or {})

    def group(self, features: np.ndarray) -> np.ndarray:
        import torch

        from primum_kernels.agglomeration import PRESETS, agglomerate

        options = dict(PRESETS[self.preset]) | {"semantic": False} | self.options
        if self.thresholds is not None:
            options["thresholds"] = self.thresholds
        found = agglomerate(torch.from_numpy(features)[None], **options)
        return found.labels[:, 0].numpy()
