"""The callback that writes a run's lineage: which rows of a trust store each step read."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.lineage import LEDGER, SCHEMA
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
        self.first = 0  # step at which the range that is being read began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the header, before anything is learned."""
        self.files, self.rows, self.first = [], Counter(), trainer.global_step
        read = (getattr(trainer.datamodule, "read", None) or {}).get("train", ())  # type: ignore[attr-defined]
        own = [one for one in read if "cts_id" in one.extra]
        if not own or getattr(trainer, "fast_dev_run", False):
            return
        self.ids = {one.id: one.extra["cts_id"] for one in own}
        if not trainer.is_global_zero:
            return
        stores = sorted({str(one.extra["store"]) for one in own})
        for number, store in enumerate(stores):
            self._begin(trainer, pl_module, store, [o for o in own if o.extra["store"] == store])
            if number:
                continue

    def _begin(self, trainer: Trainer, module: LightningModule, store: str, own: list) -> None:
        facts: Any = getattr(module, "manifest_facts", dict)
        config = self.folder / "config.yaml"
        heads = sorted({one.extra["head_hash"] for one in own})
        header = {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "name": self.name,
            "folder": str(self.folder.absolute()),
            "store": store,
            "head": heads[0],
            "view": own[0].extra["view"],
            "view_rows": len(own),
            "view_sha256": text_sha256(*(one.id for one in own)),
            "config_sha256": sha256(config) if config.exists() else None,
            "base": facts().get("base"),
        }
        if len(heads) > 1:
            raise UserError("The training set mixes two states of a trust log", file=store)
        copy = Path(store) / "lineage" / f"{self.name.replace('/', '-')}--{self.run_id}.jsonl"
        self.files.append(self.folder / LEDGER)
        if copy.parent.is_dir() and os.access(copy.parent, os.W_OK):
            self.files.append(copy)
        else:
            print(
                f"lineage: {copy.parent} cannot be written; give --runs to `primum trust lineage`"
            )
        for file in self.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                self._write(file, header)
        self.attempt = self.files[0].read_bytes().count(b'"attempt"')

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count what the batch held, on every rank."""
        if self.files:
            self.rows.update(self._rows(trainer, trainer.current_epoch, batch_idx))

    def _rows(self, trainer: Trainer, epoch: int, batch_idx: int) -> list[str]:
        loader = trainer.train_dataloader
        sampler = getattr(loader, "batch_sampler", None)
        examples = getattr(loader, "dataset", ())
        known = len(examples) and hasattr(examples[0], "rows")
        if not (isinstance(loader, ResumableLoader) and known):
            return [] if self.rows else list(self.ids.values())
        assert isinstance(sampler, ResumableBatchSampler)
        indices = micro_batch(sampler, epoch, batch_idx)
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
        with full_disk_named(file), file.open("ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def micro_batch(sampler: ResumableBatchSampler, epoch: int, batch_idx: int) -> list[int]:
    """Indices that all ranks together read in a micro-batch."""
    window, step = divmod(batch_idx, sampler.accumulate)
    dealt = sampler.deal(epoch)[window]
    parts = np.array_split(dealt, sampler.accumulate * sampler.world_size)
    return np.concatenate(parts[step * sampler.world_size :][: sampler.world_size]).tolist()
