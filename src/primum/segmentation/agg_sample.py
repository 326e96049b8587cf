"""The older design that the authors released (class `AggSample`): a head on a frozen backbone.

UniAP groups the frozen features of every view; tokens get their clusters' prototypes by attention;
where two views overlap, the student's must agree with the teacher's. There is no decoder, no
matching and no mask loss. Written from the description of that release, whose defects are not
reproduced: its centre is a sum where DINO's is a mean, its sampling grid swaps x and y, and it
fails on images that are not square.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from primum.segmentation.data.images import read_image
from primum.segmentation.data.views import resized
from primum.segmentation.networks.uniseg import UniSeg, normalised
from primum.segmentation.objectives.dense_distillation import overlap, sampled, spread
from primum.segmentation.objectives.query_distillation import (
    Centring,
    distillation_loss,
    entropy,
    warmed,
)
from primum.segmentation.pseudo_masks import UniapProposals
from primum.training.ema import Teacher, rising_momentum


class AggSampleModule(LightningModule):
    """Dense self-distillation over UniAP clusters.

    Args:
        network: Gives the frozen ViT and the head that is trained; its decoder is not used.
        proposals: UniAP's settings; only instances count.
        optimizer: Builds the optimizer from parameters.
        warmup: Share of the steps in which the learning rate rises; a cosine to zero follows.
        momentum: Of the teacher's head at the beginning.
        attention: Temperature of a token's attention to clusters.
        temperature, teacher_temperature, teacher_warmup: As in `S2UniSegModule`.
        side: Pixels of the square an image is scaled to when it is labelled.
    """

    def __init__(
        self,
        network: UniSeg,
        proposals: UniapProposals,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        warmup: float = 0.1,
        momentum: float = 0.996,
        attention: float = 0.1,
        temperature: float = 0.1,
        teacher_temperature: tuple[float, float] = (0.04, 0.07),
        teacher_warmup: float = 0.2,
        side: int = 224,
    ) -> None:
        super().__init__()
        network.requires_grad_(False)
        self.encoder, self.load_pretrained = network.encoder.eval(), network.load_pretrained
        network.head.requires_grad_(True)
        self.mean, self.std = network.mean, network.std
        self.head, self.teacher = network.head, Teacher(network.head)
        self.proposals, self.build_optimizer = proposals, optimizer
        self.warmup, self.momentum, self.attention = warmup, momentum, attention
        self.temperature, self.teacher_warmup = temperature, teacher_warmup
        self.teacher_temperature = (teacher_temperature[0], teacher_temperature[1])
        self.prototypes, self.side = len(network.head.prototypes), side
        self.targets = Centring(self.prototypes)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.load_pretrained()

    def train(self, mode: bool = True) -> "AggSampleModule":
        """The backbone stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def grouped(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """UniAP's clusters of frozen features, and how much each token belongs to each.

        Returns:
            Clusters (views, rows, channels), validity (views, rows), attention (views, rows of
            tokens, columns of tokens, rows), and supernodes a level.
        """
        pixels = normalised(images, self.mean, self.std, self.head.prototypes.dtype)
        tokens = self.encoder.backbone(pixels)[-1].permute(0, 2, 3, 1).float()
        found = self.proposals(tokens)
        rows = found.instances
        clusters, valid = found.feature[:, :rows], found.valid[:, :rows]
        attention = spread(tokens.flatten(1, 2), clusters, valid, self.attention)
        return clusters, valid, attention.unflatten(1, found.grid), found.counts.float().mean(1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        large, small = batch["image"], batch["crops"]
        images = len(large)
        boxes, flips = batch["boxes"].transpose(0, 1), batch["flips"].transpose(0, 1)
        parts = [self.grouped(view) for view in large.unbind(1)]
        clusters, valid = (torch.stack([part[at] for part in parts]) for at in (0, 1))
        with torch.no_grad():
            logits = self.teacher(clusters).float()  # (2, images, rows, K)
            kind = torch.zeros(valid.shape[-1], dtype=torch.long, device=valid.device)
            heat = warmed(
                *self.teacher_temperature, self.share_done() / max(1e-9, self.teacher_warmup)
            )
            wanted = self.targets(
                logits.flatten(0, 1), kind, valid.flatten(0, 1), heat, self.summed
            )
            wanted = wanted.unflatten(0, (2, images))
            self.targets.observe(logits.flatten(0, 1), kind, valid.flatten(0, 1))
        parts += [self.grouped(view) for view in small.unbind(1)]
        given = [maps(attention, self.head(found).float()) for found, _, attention, _ in parts]
        asked = [maps(parts[at][2], wanted[at]) for at in (0, 1)]

        total, pairs, agreement = large.new_zeros((), dtype=torch.float32), 0, []
        for teacher in (0, 1):
            for student, guess in enumerate(given):
                if student == teacher:
                    continue
                pairs += 1
                region, shared = overlap(boxes[teacher], boxes[student])
                side = guess.shape[-1]
                target = sampled(asked[teacher], boxes[teacher], flips[teacher], region, side)
                answer = sampled(guess, boxes[student], flips[student], region, side)
                loss = distillation_loss(
                    answer.flatten(2).transpose(1, 2), target.flatten(2).transpose(1, 2),
                    self.temperature,
                )  # fmt: skip
                total = total + (loss.mean(1) * shared).sum()
                agreement.append((answer.argmax(1) == target.argmax(1))[shared].float().mean())
        self.log("train/dense", total.detach() / (images * pairs), batch_size=images)
        used = wanted[valid].mean(0) if valid.any() else wanted[0, 0, 0]
        return {
            "loss": total / pairs * batch["loss_scale"],
            "supernodes": parts[0][3],
            "masks": valid.float().sum(-1).mean(),
            "entropy": entropy(used) / math.log(self.prototypes),
            "agreement": torch.stack(agreement).nanmean(),
        }

    def share_done(self) -> float:
        """How much of the training lies behind, within 0..1."""
        return self.trainer.global_step / float(self.trainer.estimated_stepping_batches)

    def summed(self, value: Tensor) -> Tensor:
        """The sum of a tensor over ranks."""
        return self.trainer.strategy.reduce(value, reduce_op="sum")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.build_optimizer(list(self.head.parameters()))
        steps = float(self.trainer.estimated_stepping_batches)
        rise = max(1, round(self.warmup * steps))

        def share_of_peak(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, steps - rise)))) / 2

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, share_of_peak), "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Let a teacher that cannot follow say so before the first step, not after it."""
        self.teacher.follow(self.head, 1.0)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, then let teacher and centre follow, before any callback may save."""
        momentum = rising_momentum(self.momentum, self.share_done())
        super().optimizer_step(*arguments, **options)
        if not self.trainer.fit_loop._should_accumulate():
            self.teacher.follow(self.head, momentum)
            self.targets.settle(self.summed)

    @torch.no_grad()
    def label(self, image: Tensor) -> Tensor:
        """The prototype of each pixel of a (3, height, width) uint8 image: (height, width)."""
        square = resized(image, self.side)[None].to(self.device)
        clusters, _, attention, _ = self.grouped(square)
        scores = maps(attention, self.teacher(clusters).float())
        return interpolate(scores, size=image.shape[1:], mode="bilinear")[0].argmax(0).cpu()

    def answer(self, cases: Sequence[Any], settings: object) -> list[dict[str, Any]]:
        """Sit a benchmark over pictures: each pixel's prototype, a segment each; no masks."""
        self.eval()
        found = [self.label(read_image(case.files["image"])).numpy() for case in cases]
        return [
            {"labels": one, "segments": one + 1,
             "categories": {label + 1: label for label in np.unique(one).tolist()}}
            for one in found
        ]  # fmt: skip


def maps(attention: Tensor, values: Tensor) -> Tensor:
    """Values of clusters (views, rows, K) as maps (views, K, rows, columns) by attention."""
    return torch.einsum("vhwr,vrk->vkhw", attention, values)
