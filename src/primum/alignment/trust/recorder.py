"""The callback that writes a run's lineage: which rows of a trust store each step read."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from primum.alignment.trust.appending import append, cut_to_lines
from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.lineage import LEDGER, SCHEMA, read_ledger
from primum.errors import UserError
from primum.files import full_disk_named, sha256
from primum.training.loading import ResumableLoader
from primum.training.sampling import ResumableBatchSampler


class LineageRecorder(Callback):
    """Writes `lineage.jsonl` when a run learns from a trust store; else it does nothing.

    Which rows a batch held follows from seed, epoch and position alone, so one process knows it of
    all ranks. Where the data is not fed by a `ResumableLoader` of examples that know their `rows`,
    every row of the training set counts as read from the first step on: too many, never too few.

    Args:
        folder: The run's folder.
        name, run_id: The experiment and the run.
    """

    def __init__(self, folder: str | Path, name: str, run_id: str) -> None:
        self.folder, self.name, self.run_id = Path(folder), name, run_id
        self.files: list[Path] = []
        self.rows: Counter[str] = Counter()
        self.dealt: tuple[int, list[np.ndarray]] | None = None
        self.first = 0  # step at which the range that is being read began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the header, before anything is learned."""
        self.files, self.rows, self.first = [], Counter(), trainer.global_step
        read = (getattr(trainer.datamodule, "read", None) or {}).get("train", ())  # type: ignore[attr-defined]
        own = [one for one in read if "cts_id" in one.extra]
        if not own or getattr(trainer, "fast_dev_run", False):
            return
        self.ids = {one.id: one.extra["cts_id"] for one in own}
        origins = {(one.extra["store"], one.extra["view"], one.extra["head_hash"]) for one in own}
        if len(origins) > 1:
            raise UserError(
                "The training set mixes views, or two states of a trust log",
                remedy="train on one view of one store",
            )
        if trainer.is_global_zero:
            self._begin(pl_module, *origins.pop())

    def _begin(self, module: LightningModule, store: str, view: str, head: str) -> None:
        facts: Any = getattr(module, "manifest_facts", dict)
        config = self.folder / "config.yaml"
        header = {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "name": self.name,
            "folder": str(self.folder.absolute()),
            "store": store,
            "view": view,
            "head": head,
            "view_rows": len(self.ids),
            "view_sha256": text_sha256(*self.ids),
            "config_sha256": sha256(config) if config.exists() else None,
            "base": facts().get("base"),
        }
        copies = Path(store) / "lineage"
        self.files = [self.folder / LEDGER]
        if os.access(copies, os.W_OK):
            self.files.append(copies / f"{self.name.replace('/', '-')}--{self.run_id}.jsonl")
        else:
            print(f"{copies} cannot be written: give `primum trust lineage` this run with --runs")
        self.attempt = 0
        for file in self.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            cut_to_lines(file)
            if file.exists():
                ranges = read_ledger(file).ranges
                self.attempt = max([self.attempt, *(one["attempt"] + 1 for one in ranges)])
            else:
                self._write(file, header)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count what the batch held, on every rank."""
        if self.files:
            self.rows.update(self._rows(trainer, trainer.current_epoch, batch_idx))

    def _rows(self, trainer: Trainer, epoch: int, batch_idx: int) -> list[str]:
        loader = trainer.train_dataloader
        sampler = getattr(loader, "batch_sampler", None)
        examples: Any = getattr(loader, "dataset", ())
        known = len(examples) and hasattr(examples[0], "rows")
        if not (isinstance(loader, ResumableLoader) and known):
            return [] if self.rows else list(self.ids.values())
        assert isinstance(sampler, ResumableBatchSampler)
        if self.dealt is None or self.dealt[0] != epoch:
            self.dealt = epoch, sampler.deal(epoch)
        indices = micro_batch(sampler, self.dealt[1], batch_idx)
        return [self.ids[row] for i in indices for row in examples[i].rows if row in self.ids]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A checkpoint must not be on the disk before what it has read is."""
        self._flush(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._flush(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._flush(trainer)

    def _flush(self, trainer: Trainer) -> None:
        if not self.rows:
            return
        line = {
            "attempt": self.attempt,
            "epoch": trainer.current_epoch,
            "from_step": self.first,
            "to_step": trainer.global_step,
            "rows": dict(sorted(self.rows.items())),
        }
        for file in self.files:
            self._write(file, line)
        self.rows, self.first = Counter(), trainer.global_step

    def _write(self, file: Path, line: dict[str, Any]) -> None:
        with full_disk_named(file):
            append(file, json.dumps(line).encode() + b"\n")


def micro_batch(
    sampler: ResumableBatchSampler, windows: list[np.ndarray], batch_idx: int
) -> list[int]:
    """Indices that all ranks together read in a micro-batch of an epoch dealt into windows."""
    window, step = divmod(batch_idx, sampler.accumulate)
    parts = np.array_split(windows[window], sampler.accumulate * sampler.world_size)
    return np.concatenate(parts[step * sampler.world_size :][: sampler.world_size]).tolist()
