"""Dense self-distillation: tokens of two views name the same prototypes where the views overlap.

How `uniseg_tiny` is made: a ViT from scratch, without labels, decoder or masks. It is DINO's
student and teacher (Caron et al., 2021) with SwAV's balanced assignments (Caron et al., 2020), a
token at a time; prototypes are compared with the tokens themselves, so that their cosines, which
UniAP groups by, are what is trained.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from primum.segmentation.networks.uniseg import MEAN, STD, normalised
from primum.segmentation.objectives.dense_distillation import overlap, sampled
from primum.segmentation.objectives.query_distillation import (
    Sinkhorn,
    distillation_loss,
    entropy,
)
from primum.training.ema import Teacher, rising_momentum


class DenseSelfDistillation(LightningModule):
    """A ViT that learns from views of images alone.

    Args:
        network: A timm ViT that returns all its tokens and has no prefix tokens.
        optimizer: Builds the optimizer from parameter groups.
        prototypes: K.
        grid: Rows and columns at which the overlap of two views is compared.
        momentum: Of the teacher at the beginning; it rises to 1 along a cosine.
        temperature, teacher_temperature: Of student and teacher.
        warmup: Share of the steps in which the learning rate rises; a cosine to zero follows.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        prototypes: int = 256,
        grid: int = 7,
        momentum: float = 0.99,
        temperature: float = 0.1,
        teacher_temperature: float = 0.05,
        warmup: float = 0.1,
    ) -> None:
        super().__init__()
        self.network, self.teacher = network, Teacher(network)
        width = int(network.num_features)  # type: ignore[arg-type]
        self.prototypes = nn.Parameter(normalize(torch.randn(prototypes, width), dim=1))
        self.targets, self.build_optimizer = Sinkhorn(prototypes), optimizer
        self.grid, self.momentum, self.warmup = grid, momentum, warmup
        self.temperature, self.teacher_temperature = temperature, teacher_temperature

    def maps(self, network: nn.Module, images: Tensor) -> Tensor:
        """(views, channels, rows, columns) tokens of uint8 views."""
        pixels = normalised(images, MEAN, STD, self.prototypes.dtype)
        side = math.isqrt(pixels.shape[-1] ** 2)
        rows = side // int(self.network.patch_embed.patch_size[0])  # type: ignore[index,union-attr]
        return network(pixels).transpose(1, 2).unflatten(2, (rows, rows)).float()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        images, boxes, flips = batch["image"], batch["boxes"], batch["flips"]
        with torch.no_grad():
            taught = self.maps(self.teacher.network, images.flatten(0, 1)).unflatten(0, (-1, 2))
        learned = self.maps(self.network, images.flatten(0, 1)).unflatten(0, (-1, 2))
        region, shared = overlap(boxes[:, 0], boxes[:, 1])

        def logits(maps: Tensor, view: int) -> Tensor:
            found = sampled(maps[:, view], boxes[:, view], flips[:, view], region, self.grid)
            tokens = normalize(found.flatten(2).transpose(1, 2), dim=-1)
            return tokens @ normalize(self.prototypes, dim=1).T  # (images, positions, K)

        places = self.grid**2
        kind = torch.zeros(places, dtype=torch.long, device=images.device)
        valid = shared[:, None].expand(-1, places)
        total, agreement, used = learned.new_zeros(()), [], []
        for view in (0, 1):
            with torch.no_grad():
                wanted = self.targets(
                    logits(taught, 1 - view), kind, valid, self.teacher_temperature, self.summed
                )
            given = logits(learned, view)
            loss = distillation_loss(given, wanted, self.temperature)
            total = total + (loss.mean(1) * shared).sum() / 2
            agreement.append((given.argmax(-1) == wanted.argmax(-1))[shared].float().mean())
            used.append(given.detach()[shared].argmax(-1).flatten())
        named = torch.cat(used).bincount(minlength=len(self.prototypes)).float()
        return {
            "loss": total * batch["loss_scale"],
            "entropy": entropy(named / named.sum().clamp(min=1)) / math.log(len(self.prototypes)),
            "agreement": torch.stack(agreement).nanmean(),
        }

    def share_done(self) -> float:
        """How much of the training lies behind, within 0..1."""
        return self.trainer.global_step / float(self.trainer.estimated_stepping_batches)

    def summed(self, value: Tensor) -> Tensor:
        """The sum of a tensor over ranks."""
        return self.trainer.strategy.reduce(value, reduce_op="sum")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        learned = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = self.build_optimizer(
            [
                {"params": [weight for weight in learned if weight.ndim > 1]},
                {"params": [weight for weight in learned if weight.ndim < 2], "weight_decay": 0.0},
            ]
        )
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
        self.teacher.follow(self.network, 1.0)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, then let the teacher follow, before any callback may save."""
        momentum = rising_momentum(self.momentum, self.share_done())
        super().optimizer_step(*arguments, **options)
        if not self.trainer.fit_loop._should_accumulate():
            self.teacher.follow(self.network, momentum)
