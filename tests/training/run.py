"""A small but awkward training run: dropout, batch norm, workers, accumulation, schedulers."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset, StackDataset

from primum.training.environments import trainer_plugins
from primum.training.loading import ResumableLoader
from primum.training.progress import StepLoss
from primum.training.resume import ResumeState
from primum.training.sampling import example_generator


class Points(Dataset):
    """Random points, augmented anew in each epoch."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> dict[str, Any]:
        point = torch.randn(8, generator=example_generator(7, 0, int(index)))
        noise = torch.randn(8, generator=example_generator(7, index.epoch + 1, int(index)))
        return {"x": point + 0.1 * noise, "id": int(index)}


def count(batch: dict[str, Any]) -> float:
    """Samples of even number weigh more."""
    return float((1 + (batch["id"] % 2 == 0)).sum())


class Net(L.LightningModule):
    """Draws from all three global generators in a step, and writes each step down."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.plan = plan
        self.net = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 1)
        )

    def write(self, **row: Any) -> None:
        file = Path(self.plan["folder"]) / f"steps{self.global_rank}.jsonl"
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        weight = 1 + (batch["id"] % 2 == 0)
        values = self.net(batch["x"] + 0.01 * float(np.random.rand()))
        loss = (values.square().squeeze(1) * weight).sum() * batch["loss_scale"]
        self.write(
            at=[self.current_epoch, batch_idx], ids=batch["id"].tolist(), loss=float(loss).hex(),
            step=self.global_step, total=self.trainer.fit_loop.total_batch_idx,
            logged_at=self.trainer.fit_loop.epoch_loop._batches_that_stepped,
        )  # fmt: skip
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        torch.rand(3)  # a careless metric that moves the global randomness
        self.log("val/loss", self.net(batch["x"]).square().mean())

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            loop = self.trainer.fit_loop.epoch_loop
            loss = float(self.trainer.callback_metrics.get("val/loss", torch.zeros(1)))
            self.write(val=[self.current_epoch, loop.batch_progress.current.ready], loss=loss)

    def on_train_epoch_end(self) -> None:
        self.write(end=self.current_epoch, rate=self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.02)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss", "interval": "epoch"},
        }

    def train_dataloader(self) -> DataLoader:
        workers = self.plan.get("workers", 0)
        return ResumableLoader(
            Points(self.plan.get("size", 43)),
            self.trainer,
            batch_size=4,
            seed=3,
            lengths=list(range(self.plan.get("size", 43))) if self.plan.get("group") else None,
            weigh=count,
            num_workers=workers,
            persistent_workers=bool(workers) and self.plan.get("persistent", False),
        )

    def val_dataloader(self) -> DataLoader:
        points = torch.randn(6, 8, generator=torch.Generator().manual_seed(5))
        return DataLoader(StackDataset(x=points), batch_size=3)


class SaveAndDie(L.Callback):
    """Saves every so many micro-batches, and kills the process before or after one is saved."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if done % self.plan.get("save_every", 10**9) == 0:
            trainer.save_checkpoint(Path(self.plan["folder"]) / "checkpoints" / "last.ckpt")
        if done == self.plan.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if done == self.plan.get("term_at"):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if not trainer.sanity_checking and done == self.plan.get("kill_in_validation_at"):
            os.kill(os.getpid(), signal.SIGKILL)


def train(plan: dict[str, Any]) -> None:
    """Train as planned: keys are those read in this file."""
    folder = Path(plan["folder"])
    if "kill_after" in plan:
        threading.Timer(plan["kill_after"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    L.seed_everything(1, verbose=False)
    loss = StepLoss()
    extra = plan.get("checkpoint")
    trainer = L.Trainer(
        accelerator="cpu",
        devices=plan.get("devices", 1),
        strategy=plan.get("strategy", "auto"),
        max_epochs=plan.get("epochs", 2),
        max_steps=plan.get("max_steps", -1),
        accumulate_grad_batches=plan.get("accumulate", 3),
        val_check_interval=plan.get("val_every"),
        limit_train_batches=plan.get("limit"),
        limit_val_batches=plan.get("validate", 1.0),
        callbacks=[
            ResumeState(),
            loss,
            SaveAndDie(plan),
            *([ModelCheckpoint(folder / "checkpoints", **extra)] if extra else []),
        ],
        plugins=trainer_plugins(),
        logger=False,
        enable_checkpointing=bool(extra),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    module = Net(plan)
    trainer.fit(module, ckpt_path=plan.get("resume"), weights_only=True)
    with (folder / f"trace{trainer.global_rank}.json").open("w") as stream:
        json.dump(loss.trace, stream)
    torch.save(module.state_dict(), folder / f"final{trainer.global_rank}.pt")
    if "kill_after" in plan:
        os._exit(0)  # the timer would outlive the run
