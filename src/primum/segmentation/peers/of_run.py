"""UniAP on what a run has learned, on what it began with, or on mere colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from primum.checkpoints.resolve import resolve
from primum.errors import UserError
from primum.extras import require
from primum.segmentation.data.views import resized
from primum.segmentation.networks.encoder import vit
from primum.segmentation.peers.peer import Peer, enlarged
from primum_kernels.agglomeration import PRESETS, agglomerate

FEATURES = ("final", "untrained", "colours")


class UniapOfRun(Peer):
    """UniAP with the settings of a run of S2-UniSeg.

    Args:
        run: The run's folder or manifest.
        features: `final`: the tokens of the network that answers for the run; `untrained`: those of
            the same network as it is built; `colours`: mean CIELAB of each token's pixels.
        thresholds: Other levels than the run's.
        finer: With `colours`: so many cells along the side of each token.
        seed: Of untrained weights.
    """

    def __init__(
        self,
        run: str,
        features: str = "final",
        thresholds: Sequence[float] | None = None,
        finer: int = 1,
        seed: int = 0,
    ) -> None:
        if features not in FEATURES:
            raise UserError(f"There are no features={features}", remedy=", ".join(FEATURES))
        self.run, self.features, self.finer, self.seed = run, features, finer, seed
        self.thresholds = None if thresholds is None else tuple(thresholds)
        checkpoint = resolve(run)
        self.fingerprint = checkpoint.fingerprint
        self.module = checkpoint.build_module().eval()
        if features == "untrained":
            network = self.module.segmenting
            torch.manual_seed(seed)
            network.encoder.vit = vit(**network.backbone | {"pretrained": False}).eval()
            torch.nn.init.zeros_(network.encoder.residual.weight)
            torch.nn.init.zeros_(network.encoder.residual.bias)
            network.load_pretrained()

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"run": self.fingerprint}

    @torch.no_grad()
    def partitions(self, image: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        square = resized(pixels, self.module.side)[None]
        tokens = self.module.segmenting.tokens(square)
        if self.features == "colours":
            lab = require("skimage.color", "segmentation").rgb2lab(
                square[0].permute(1, 2, 0).numpy()
            )
            cells = (tokens.shape[1] * self.finer, tokens.shape[2] * self.finer)
            lab = torch.from_numpy(lab).float().permute(2, 0, 1)
            tokens = adaptive_avg_pool2d(lab, cells)[None].permute(0, 2, 3, 1)
        proposals = self.module.proposals
        options = {**PRESETS[proposals.preset], **proposals.options, "semantic": False}
        if self.thresholds is not None:
            options["thresholds"] = self.thresholds
        found = agglomerate(proposals.features(tokens), **options)
        return enlarged(found.labels[:, 0].numpy(), *image.shape[:2])
