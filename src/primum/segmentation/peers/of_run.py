"""UniAP on what a run has learned, on what it began with, or on mere colours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from primum.checkpoints.resolve import resolve
from primum.errors import UserError
from primum.extras import require
from primum.metrics.sweep_overlap import RANKS, distinct_regions
from primum.segmentation.data.views import resized
from primum.segmentation.peers.peer import Peer, Shown, enlarged
from primum.segmentation.pictures import read_picture
from primum_kernels.agglomeration import PRESETS, agglomerate
from primum_kernels.regions import Regions

FEATURES = ("final", "untrained", "colours")


class UniapOfRun(Peer):
    """UniAP with the settings of a run of S2-UniSeg.

    Args:
        run: The run's folder or manifest.
        features: `final`: the tokens of the network that answers for the run; `untrained`: those of
            the same network as it is built; `colours`: mean CIELAB of each token's pixels.
        thresholds: Other levels than the run's.
        finer: With `colours`: so many cells along the side of each token.
        side: Pixels of the square a picture is scaled to, where it is another than the run's.
        seed: Of untrained weights.
    """

    def __init__(
        self,
        run: str,
        features: str = "final",
        thresholds: Sequence[float] | None = None,
        finer: int = 1,
        side: int | None = None,
        seed: int = 0,
    ) -> None:
        if features not in FEATURES:
            raise UserError(f"There are no features={features}", remedy=", ".join(FEATURES))
        self.run, self.features, self.finer, self.seed = run, features, finer, seed
        self.thresholds = None if thresholds is None else tuple(thresholds)
        checkpoint = resolve(run)
        self.fingerprint = checkpoint.fingerprint
        self.module = checkpoint.build_module().eval()
        self.side = side or self.module.side
        if features == "untrained":
            network = self.module.segmenting
            torch.manual_seed(seed)
            network.encoder.vit = network.fresh_vit().eval()
            torch.nn.init.zeros_(network.encoder.residual.weight)
            torch.nn.init.zeros_(network.encoder.residual.bias)
            network.load_pretrained()

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"run": self.fingerprint}

    def partitions(self, image: np.ndarray) -> np.ndarray:
        return self.grouped(image)[0]

    def answer(self, cases: Sequence[Shown], settings: object) -> list[dict[str, Any]]:
        """The partitions, and their regions as masks, the best of UniAP's own table first.

        Regions that the table leaves out as too small come last: single tokens are the most
        persistent of all, and would otherwise take the places of everything else.
        """
        answers = []
        for case in cases:
            image = read_picture(case.files["image"])
            start = time.perf_counter()
            partitions, regions = self.grouped(image)
            seconds = time.perf_counter() - start
            order = regions.score.argsort(descending=True, stable=True).tolist()
            places = [(int(regions.level[row]), int(regions.label[row])) for row in order]
            listed = set(places)
            rest = sorted(distinct_regions(partitions), key=RANKS["persistence"])
            places += [row[:2] for row in rest if row[:2] not in listed]
            masks = [
                {"segmentation": partitions[level] == label, "score": 1 - place / len(places)}
                for place, (level, label) in enumerate(places)
            ]
            answers.append({"partitions": partitions, "masks": masks, "seconds": seconds})
        return answers

    @torch.no_grad()
    def grouped(self, image: np.ndarray) -> tuple[np.ndarray, Regions]:
        """(levels, height, width) labels of a (height, width, 3) uint8 picture, and the table."""
        pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        square = resized(pixels, self.side)[None]
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
        labels = enlarged(found.labels[:, 0].numpy(), image.shape[0], image.shape[1])
        return labels, found.regions.of_image(0)
