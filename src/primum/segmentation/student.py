"""What every way of training a mask decoder shares: the network, its losses, its optimizer."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from primum.segmentation.data.images import read_image
from primum.segmentation.networks.decoder import Prediction
from primum.segmentation.networks.uniseg import UniSeg
from primum.segmentation.objectives.masks import mask_losses, objectness_loss
from primum.segmentation.objectives.matching import Pairs, match
from primum.segmentation.pseudo_masks import Targets
from primum.segmentation.segmenter import Masks, segment


class MaskStudent(LightningModule):
    """A network that learns masks somebody proposes.

    Args:
        network: The student.
        optimizer: Builds the optimizer from parameter groups.
        warmup: Optimizer steps in which the learning rate rises from zero.
        final: Learning rate at the end, as a share of its peak; the fall is a cosine.
        backbone_rate: Learning rate of the ViT, as a share of the others'.
        weights: Of `entropy` and `dice` of matched pairs, and of `objectness`.
        match_layers: Match every decoder layer by itself, as Mask2Former does; otherwise all
            layers learn what the last one is matched with, at a fraction of the time.
        side: Pixels of the square an image is scaled to when it is segmented.
    """

    names = True  # prototypes are learned, so that masks have classes, if unnamed ones

    def __init__(
        self,
        network: UniSeg,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        warmup: int = 10_000,
        final: float = 0.0,
        backbone_rate: float = 0.1,
        weights: dict[str, float] | None = None,
        match_layers: bool = True,
        side: int = 512,
    ) -> None:
        super().__init__()
        self.student, self.build_optimizer = network, optimizer
        self.warmup, self.final, self.backbone_rate = warmup, final, backbone_rate
        self.weights = {"entropy": 5.0, "dice": 5.0, "objectness": 2.0} | (weights or {})
        self.match_layers, self.side = match_layers, side

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.student.load_pretrained()

    @property
    def segmenting(self) -> nn.Module:
        """The network that answers for this module once it is trained."""
        return self.student

    def losses(self, prediction: Prediction, targets: Targets) -> tuple[dict[str, Tensor], Pairs]:
        """Mask and objectness losses, summed over views and averaged over decoder layers.

        Returns:
            The losses, unweighted; and the pairs of the last layer.
        """
        queries = self.student.decoder.kinds
        last = match(prediction.masks[-1], targets, queries)
        parts: dict[str, list[Tensor]] = {"entropy": [], "dice": [], "objectness": []}
        for layer, (logits, objects) in enumerate(
            zip(prediction.masks, prediction.objectness, strict=True)
        ):
            own = self.match_layers and layer < len(prediction.masks) - 1
            pairs = match(logits, targets, queries) if own else last
            entropy, dice = mask_losses(logits, targets.masks, pairs)
            parts["entropy"].append(entropy)
            parts["dice"].append(dice)
            parts["objectness"].append(objectness_loss(objects, pairs))
        return {name: torch.stack(found).mean() for name, found in parts.items()}, last

    def log_parts(self, parts: dict[str, Tensor], images: int) -> None:
        """Log each loss of this micro-batch, an image's mean."""
        self.log_dict(
            {f"train/{name}": value.detach() / images for name, value in parts.items()},
            on_step=True, on_epoch=False, batch_size=images,
        )  # fmt: skip

    def share_done(self) -> float:
        """How much of the training lies behind, within 0..1."""
        steps = float(self.trainer.estimated_stepping_batches)
        return self.trainer.global_step / steps if math.isfinite(steps) and steps > 0 else 0.0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, weight in self.named_parameters():
            if weight.requires_grad:
                key = (name.startswith("student.encoder.vit."), weight.ndim > 1)
                groups.setdefault(key, []).append(weight)
        decay = {True: {}, False: {"weight_decay": 0.0}}  # none on biases and norms
        optimizer = self.build_optimizer(
            [{"params": found} | decay[matrix] for (_, matrix), found in groups.items()]
        )
        steps = float(self.trainer.estimated_stepping_batches)

        def share_of_peak(step: int) -> float:
            if step < self.warmup:
                return (step + 1) / self.warmup
            fallen = min(1.0, (step - self.warmup) / max(1.0, steps - self.warmup))
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * fallen)) / 2

        def slower(step: int) -> float:
            return self.backbone_rate * share_of_peak(step)

        schedule = LambdaLR(optimizer, [slower if vit else share_of_peak for vit, _ in groups])
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    @torch.no_grad()
    def segment(self, image: Tensor, limit: int = 100) -> Masks:
        """Masks of one (3, height, width) uint8 image of any size, best first."""
        return segment(self.segmenting, image, self.side, limit)

    def answer(self, cases: Sequence[Any], settings: object) -> list[dict[str, Any]]:
        """Sit a benchmark over pictures: each case's `files["image"]` in every form there is.

        Masks, partitions (see `Masks`), and of a module that learns prototypes: labels, 0..K-1, and
        segments with their categories. The seconds are those of the masks alone.
        """
        self.eval()
        answers: list[dict[str, Any]] = []
        for case in cases:
            image = read_image(case.files["image"])
            start = time.perf_counter()
            found = self.segment(image, limit=1000)
            seconds = time.perf_counter() - start
            answers.append(
                {"masks": found.as_dicts(), "partitions": found.partitions(), "seconds": seconds}
            )
            if self.names:
                segments, categories = found.panoptic(len(self.student.head.prototypes))
                answers[-1] |= {"labels": found.labels.numpy()}
                answers[-1] |= {"segments": segments, "categories": categories}
        return answers
