"""What a run is worth per second and per step: figures that hold over ranks and accumulation."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class StepLoss(Callback):
    """Logs the loss of each optimizer step: over its accumulated micro-batches and all ranks.

    What `training_step` itself logs is the loss of one micro-batch of rank 0. With a loader's
    `loss_scale` the figure is the exact mean over the step's supervised tokens.

    Args:
        name: What it is logged as.
        every: Optimizer steps between two entries; ranks talk to each other only then.

    Attributes:
        trace: (global step, loss) of every entry of this process, oldest first.
    """

    def __init__(self, name: str = "train/loss", every: int = 1) -> None:
        self.name, self.every = name, every
        self.trace: list[tuple[int, float]] = []
        self.sum: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(outputs, dict) and "loss" in outputs:  # already divided by the accumulation
            loss = outputs["loss"].detach().float()
            first = batch_idx % trainer.accumulate_grad_batches == 0
            self.sum = loss if first or self.sum is None else self.sum + loss
        if self.sum is None or trainer.fit_loop._should_accumulate():
            return
        if trainer.global_step % self.every == 0:
            loss = trainer.strategy.reduce(self.sum, reduce_op="mean")
            self.trace.append((trainer.global_step, float(loss)))
            pl_module.log(self.name, loss, prog_bar=True, on_epoch=False, batch_size=1)
        self.sum = None


class Throughput(Callback):
    """Logs speed and peak memory, without the time that validation and saving take.

    A module with `tokens_in(batch) -> int` (unpadded tokens) gets `train/tokens_per_second`, others
    `train/samples_per_second`. Both are over all ranks, taking this rank's share as typical.

    Args:
        every: Micro-batches between two entries.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self.amount, self.seconds = 0, 0.0
        self.since: float | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.since is None:
            self.since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        tokens_in = getattr(pl_module, "tokens_in", None)
        self.amount += int(tokens_in(batch)) if tokens_in else samples_in(batch)
        due = (trainer.fit_loop.total_batch_idx + 1) % self.every == 0
        device = trainer.strategy.root_device
        if due and device.type == "cuda":
            torch.cuda.synchronize(device)  # else the clock runs ahead of the GPU
        assert self.since is not None
        now = time.perf_counter()
        self.seconds += now - self.since
        self.since = now  # so that waiting for the next batch counts
        if due:
            name = f"train/{'tokens' if tokens_in else 'samples'}_per_second"
            speed = self.amount * trainer.world_size / self.seconds
            figures = {name: speed, "memory/peak_gib": peak_memory(device)}
            pl_module.log_dict(figures, on_step=True, on_epoch=False, batch_size=1)
            self.amount, self.seconds = 0, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.since = None


def samples_in(batch: Any) -> int:
    """Length of the first tensor in a batch, 0 when there is none.

    >>> samples_in({"input_ids": torch.zeros(3, 7), "loss_scale": 0.5})
    3
    """
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else 0
    parts = batch.values() if isinstance(batch, dict) else batch
    if not isinstance(batch, dict | list | tuple):
        return 0
    return next((count for part in parts if (count := samples_in(part))), 0)


def peak_memory(device: torch.device) -> float:
    """Most memory held so far in GiB: of the GPU, or resident of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
