"""S2-UniSeg: a student learns the masks that UniAP finds in its teacher's features."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from primum.segmentation.networks.uniseg import UniSeg
from primum.segmentation.objectives.query_distillation import (
    Centring,
    Sinkhorn,
    distillation_loss,
    entropy,
    warmed,
)
from primum.segmentation.pseudo_masks import UniapProposals
from primum.segmentation.student import MaskStudent
from primum.training.ema import Teacher, rising_momentum


class S2UniSegModule(MaskStudent):
    """Self-supervised universal segmentation (S2-UniSeg, AAAI-26).

    Each step the teacher sees whole images, UniAP groups its features into pseudo-masks, and the
    student predicts them in local views: their pixels, and with QuerySD their prototypes. No
    annotation is read. The paper prints QuerySD alone; without a mask loss its decoder would learn
    no masks, so Mask2Former's is ours to add, as are the values the paper leaves open (see the
    presets in `conf/module`).

    Args:
        network: The student; the teacher begins as its copy.
        proposals: UniAP's settings.
        optimizer, warmup, final, backbone_rate, weights, match_layers, side: See `MaskStudent`;
            `weights` may also set `query`, the weight of QuerySD.
        momentum: Of the teacher at the beginning; it rises to 1 along a cosine.
        targets: How teacher probabilities are kept from collapsing; `Centring` if None.
        temperature: Of the student's prototypes.
        teacher_temperature: Of the teacher's, at the beginning and after `teacher_warmup`.
        teacher_warmup: Share of the steps in which the teacher's temperature rises.
        answers: Who segments once training is done: `teacher`, as in the paper, or `student`.
    """

    def __init__(
        self,
        network: UniSeg,
        proposals: UniapProposals,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        warmup: int = 10_000,
        final: float = 0.0,
        backbone_rate: float = 0.1,
        weights: dict[str, float] | None = None,
        match_layers: bool = True,
        side: int = 512,
        momentum: float = 0.996,
        targets: Centring | Sinkhorn | None = None,
        temperature: float = 0.1,
        teacher_temperature: tuple[float, float] = (0.04, 0.07),
        teacher_warmup: float = 0.2,
        answers: str = "teacher",
    ) -> None:
        if answers not in ("teacher", "student"):
            raise ValueError(f"answers is {answers!r}; it must be teacher or student")
        weights = {"query": 1.0} | (weights or {})
        super().__init__(
            network, optimizer, warmup, final, backbone_rate, weights, match_layers, side
        )
        self.teacher = Teacher(network)
        self.proposals, self.momentum, self.answers = proposals, momentum, answers
        self.prototypes = len(network.head.prototypes)
        self.targets = targets or Centring(self.prototypes)
        self.temperature, self.teacher_warmup = temperature, teacher_warmup
        self.teacher_temperature = (teacher_temperature[0], teacher_temperature[1])

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            self.teacher.network.load_state_dict(self.student.state_dict())

    @property
    def segmenting(self) -> nn.Module:
        return self.teacher.network if self.answers == "teacher" else self.student

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        images, crops = batch["image"], batch["crops"]
        with torch.no_grad():
            found = self.proposals(self.teacher.network.tokens(images))
            logits = self.teacher.network.head(found.feature).float()  # (images, rows, K)
        prediction = self.student(crops.flatten(0, 1))
        side = prediction.masks[-1].shape[-1]
        targets = found.cropped(batch["boxes"], batch["flips"], side)
        parts, pairs = self.losses(prediction, targets)

        probabilities = self.targets(
            logits, targets.kind, found.valid, self.teacher_heat(), self.summed
        )
        self.targets.observe(logits, targets.kind, found.valid)
        wanted = probabilities[pairs.view // crops.shape[1], pairs.target]
        given = self.student.named(prediction.queries[pairs.view, pairs.query]).float()
        distilled = distillation_loss(given, wanted, self.temperature)
        parts["query"] = (distilled * pairs.weight).sum()

        parts = {name: value / crops.shape[1] for name, value in parts.items()}
        self.log_parts(parts, len(images))
        loss = sum(self.weights[name] * value for name, value in parts.items())
        used = probabilities[found.valid].mean(0) if found.valid.any() else probabilities[0, 0]
        return {
            "loss": loss * batch["loss_scale"],
            "supernodes": found.counts.float().mean(1),
            "masks": found.valid.float().sum(1).mean(),
            "entropy": entropy(used) / torch.tensor(self.prototypes).log(),
            "agreement": (given.argmax(-1) == wanted.argmax(-1)).float().mean(),
            "overlap": pairs.dice.mean(),
        }

    def teacher_heat(self) -> float:
        """The teacher's temperature at this step."""
        return warmed(*self.teacher_temperature, self.share_done() / max(1e-9, self.teacher_warmup))

    def summed(self, value: Tensor) -> Tensor:
        """The sum of a tensor over ranks."""
        return self.trainer.strategy.reduce(value, reduce_op="sum")

    def on_train_start(self) -> None:
        """Let a teacher that cannot follow say so before the first step, not after it."""
        self.teacher.follow(self.student, 1.0)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, then let teacher and centre follow, before any callback may save."""
        momentum = rising_momentum(self.momentum, self.share_done())
        super().optimizer_step(*arguments, **options)
        if not self.trainer.fit_loop._should_accumulate():  # DeepSpeed is asked each micro-batch
            self.teacher.follow(self.student, momentum)
            self.targets.settle(self.summed)
