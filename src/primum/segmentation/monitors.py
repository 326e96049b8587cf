"""What goes wrong in self-distillation shows here first: regions, prototypes, agreement, masks."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from primum.errors import UserError


class Health(Callback):
    """Logs what a step saw, and raises an alarm when prototypes collapse.

    `health/supernodes_1` ... of each UniAP level (one supernode at the last level means that
    everything merged), `health/masks` an image, `health/entropy` of the prototypes in use as a
    share of log K, `health/agreement` of teacher and student on the prototype of a matched pair,
    `health/overlap` (Dice) of matched masks. They are means of rank 0's micro-batches.

    Args:
        every: Optimizer steps between two entries.
        alarm: Share of log K below which prototypes count as collapsed.
        patience: Entries in a row below it before the alarm.
        stop: End the run then, with an error, instead of a warning.
    """

    def __init__(
        self, every: int = 20, alarm: float = 0.5, patience: int = 3, stop: bool = False
    ) -> None:
        self.every, self.alarm, self.patience, self.stop = every, alarm, patience, stop
        self.sums: dict[str, Tensor] = {}
        self.count, self.low = 0, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for name in ("supernodes", "masks", "entropy", "agreement", "overlap"):
            if name in outputs and not outputs[name].isnan().any():
                self.sums[name] = self.sums.get(name, 0) + outputs[name].detach().float()
        self.count += 1
        if trainer.fit_loop._should_accumulate() or trainer.global_step % self.every:
            return
        means = {name: value / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        levels = means.pop("supernodes", torch.zeros(0))
        figures = {f"health/{name}": value for name, value in means.items()}
        figures |= {f"health/supernodes_{at}": value for at, value in enumerate(levels, 1)}
        pl_module.log_dict(figures, on_step=True, on_epoch=False, batch_size=1)
        if "entropy" in means:
            self.judge(float(means["entropy"]))

    def judge(self, entropy: float) -> None:
        """Count entries below the bound in a row; warn or stop when there are enough.

        Raises:
            UserError: The prototypes have collapsed and `stop` is set.
        """
        self.low = self.low + 1 if entropy < self.alarm else 0
        if self.low != self.patience:
            return
        problem = (
            f"The prototypes are collapsing: those in use have {entropy:.2f} of the greatest"
            f" entropy, below {self.alarm} for {self.patience} entries"
        )
        remedy = "raise module.teacher_temperature, lower the learning rate, or use Sinkhorn"
        if self.stop:
            raise UserError(problem, remedy=remedy)
        rank_zero_warn(f"{problem}; {remedy}")


class MaskPictures(Callback):
    """Shows a few images with the student's masks beside the pseudo-masks it learns from.

    Rows are images; columns are the image, the finest, middle and coarsest level of UniAP (of a
    module that runs it), and the best masks of the network. They go to every logger that takes
    pictures (TensorBoard, Weights & Biases).

    Args:
        every: Optimizer steps between two pictures.
        images: Rows.
    """

    def __init__(self, every: int = 500, images: int = 4) -> None:
        self.every, self.images = every, images

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = trainer.global_step % self.every == 0 and not trainer.fit_loop._should_accumulate()
        if not due or not trainer.is_global_zero or sharded(pl_module):
            return
        picture = self.draw(pl_module, batch["image"][: self.images])
        loggers: list[Any] = trainer.loggers
        for logger in loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("masks", [picture.permute(1, 2, 0).numpy()])
            elif hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("masks", picture, trainer.global_step)

    @torch.no_grad()
    def draw(self, module: Any, images: Tensor) -> Tensor:
        """(3, rows * height, columns * width) uint8."""
        side, rows = images.shape[-1], []
        network = module.segmenting
        training = network.training
        network.eval()  # draws nothing from the run's randomness
        levels = []
        if hasattr(module, "proposals"):
            found = module.proposals(module.teacher.network.tokens(images))
            instance_levels = len(found.counts)
            levels = [found.maps[:, at].view(-1, *found.grid).cpu() for at in
                      sorted({0, instance_levels // 2, instance_levels - 1})]  # fmt: skip
        for index, image in enumerate(images):
            columns = [image.cpu()]
            for level in levels:
                columns.append(coloured(enlarged(level[index], side)))
            segmented = module.segment(image, limit=30)
            label = torch.zeros(side, side, dtype=torch.long)
            for at in segmented.masks.sum((1, 2)).argsort(descending=True).tolist():
                label[segmented.masks[at]] = at + 1  # small masks lie on top of large ones
            columns.append(coloured(label))
            rows.append(torch.cat(columns, 2))
        network.train(training)
        return torch.cat(rows, 1)


def enlarged(label: Tensor, side: int) -> Tensor:
    """A label map as (side, side), each pixel with its token's label."""
    pixels = label[None, None].float()
    return torch.nn.functional.interpolate(pixels, size=(side, side))[0, 0].long()


def coloured(label: Tensor) -> Tensor:
    """(height, width) labels to (3, height, width) uint8; the same label has the same colour."""
    mixed = (label.long() + 1) * torch.tensor([73, 151, 211])[:, None, None]
    return (mixed % 200 + 40).to(torch.uint8)


def sharded(module: LightningModule) -> bool:
    """Whether weights lie in shards, so that one rank alone cannot run the network."""
    return any(hasattr(weight, "ds_id") for weight in module.parameters())
