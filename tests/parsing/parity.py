"""The same few steps of docvlm-tiny on one process or many, sharded or not."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch

from primum.parsing.data import Stage, SyntheticData
from primum.parsing.docvlm import DocVlmTiny
from primum.parsing.module import ParsingModule
from primum.parsing.synthesis.page import Recipe
from primum.training.environments import trainer_plugins
from primum.training.progress import StepLoss
from primum.training.resume import ResumeState
from primum.training.strategies import DeepSpeed

TINY = DocVlmTiny(encoder=(1, 1, 1, 1), sight=(8, 8, 16, 32), decoder=1, width=32, heads=2)
WORD = Recipe(width=(112, 128), characters=(4, 10), paragraph=10, chances={}, margin=4)
LINE = Recipe(width=(224, 256), characters=(8, 20), paragraph=20, chances={}, margin=4)


def data(**options: Any) -> SyntheticData:
    """A curriculum of two stages, bundles of two pages."""
    stages = [Stage(WORD, epochs=1, pages=2), Stage(LINE, epochs=1, pages=2)]
    return SyntheticData(TINY, stages, **({"bundles": 8, "validation": 0} | options))


class SaveAt(L.Callback):
    """Saves `middle.ckpt` after so many steps."""

    def __init__(self, folder: Path, step: int | None) -> None:
        self.folder, self.step = folder, step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.folder / "middle.ckpt")


def fit(plan: dict[str, Any]) -> None:
    """Train as planned, and write down the losses."""
    folder = Path(plan["folder"])
    strategy = plan.get("strategy", "auto")
    if strategy.startswith("zero"):
        strategy = DeepSpeed(stage=int(strategy[4]))
    L.seed_everything(0, verbose=False)
    loss = StepLoss()
    module = ParsingModule(TINY, partial(torch.optim.AdamW, lr=3e-3), reading=1.0)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=plan.get("devices", 1),
        strategy=strategy,
        max_epochs=2,
        accumulate_grad_batches=plan.get("accumulate", 1),
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        callbacks=[ResumeState(), loss, SaveAt(folder, plan.get("save_at"))],
        plugins=trainer_plugins(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    pages = data()  # a bundle a micro-batch: what is padded with what stays the same on any ranks
    trainer.fit(module, datamodule=pages, ckpt_path=plan.get("resume"), weights_only=True)
    if trainer.is_global_zero:
        (folder / f"{plan['name']}.json").write_text(json.dumps(loss.trace))
