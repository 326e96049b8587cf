"""A student and its teacher in miniature, trained in processes of their own as a real run is."""

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch

from primum.segmentation.data.datamodule import ImageData
from primum.segmentation.data.scenes import Scenes
from primum.segmentation.data.views import Views
from primum.segmentation.networks.uniseg import UniSeg
from primum.segmentation.objectives.query_distillation import Centring, Sinkhorn
from primum.segmentation.pseudo_masks import UniapProposals
from primum.segmentation.s2uniseg import S2UniSegModule
from primum.training.environments import trainer_plugins
from primum.training.progress import StepLoss
from primum.training.resume import ResumeState
from primum.training.strategies import DeepSpeed

SIDE = 64
LEVELS = {"thresholds": (0.8, 0.6), "linkage": "reciprocal", "strict": False}


def network(**decoder: Any) -> UniSeg:
    """About 60,000 weights; the same every time."""
    torch.manual_seed(0)
    small = {"hidden": 32, "instances": 9, "semantic": 3, "layers": 1, "pixel_layers": 1}
    return UniSeg(
        {"name": "vit", "img_size": SIDE, "patch_size": 8, "embed_dim": 32, "depth": 4,
         "num_heads": 2, "mlp_ratio": 2.0},
        channels=32,
        stem=8,
        decoder=small | {"heads": 2, "feedforward": 32} | decoder,
        head={"prototypes": 16, "hidden": 32, "bottleneck": 16},
    )  # fmt: skip


def module(plan: dict[str, Any] | None = None) -> S2UniSegModule:
    """The module under test; `optimizer` and `targets` may be planned."""
    plan = plan or {}
    kinds = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}
    targets = {"centring": Centring(16), "sinkhorn": Sinkhorn(16)}
    return S2UniSegModule(
        network(),
        UniapProposals("author_code", LEVELS, 9, 3, centre=True),
        functools.partial(kinds[plan.get("optimizer", "AdamW")], lr=plan.get("rate", 1e-3)),
        warmup=2,
        momentum=0.9,
        match_layers=False,
        side=SIDE,
        targets=targets[plan.get("targets", "centring")],
    )


def images(plan: dict[str, Any] | None = None) -> ImageData:
    """Twelve scenes, four to an optimizer step."""
    plan = plan or {}
    return ImageData(
        functools.partial(Scenes, 12, 5, SIDE),
        Views(SIDE, SIDE, 2, (0.3, 1.0)),
        batch_size=plan.get("batch", 4),
        seed=3,
        num_workers=plan.get("workers", 0),
    )


class SaveAndDie(L.Callback):
    """Saves every so many micro-batches, and kills the process after one of them."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if done % self.plan.get("save_every", 10**9) == 0:
            trainer.save_checkpoint(Path(self.plan["folder"]) / "checkpoints" / "last.ckpt")
        if done == self.plan.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)


def train(plan: dict[str, Any]) -> None:
    """Train, then write down the losses and the whole state."""
    folder = Path(plan["folder"])
    L.seed_everything(1, verbose=False)
    strategy = plan.get("strategy", "auto")
    if strategy.startswith("zero"):
        strategy = DeepSpeed(stage=int(strategy[4]))
    loss = StepLoss()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=plan.get("devices", 1),
        strategy=strategy,
        max_steps=plan.get("steps", 4),
        accumulate_grad_batches=plan.get("accumulate", 1),
        precision=plan.get("precision", "32-true"),
        callbacks=[ResumeState(), loss, SaveAndDie(plan)],
        plugins=trainer_plugins(),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    made = module(plan)
    trainer.fit(made, images(plan), ckpt_path=plan.get("resume"), weights_only=True)
    whole = trainer.strategy.lightning_module_state_dict()
    if trainer.is_global_zero:
        torch.save(whole, folder / "final.pt")
        (folder / "trace.json").write_text(json.dumps(loss.trace))
