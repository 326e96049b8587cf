"""Alignment's little training runs, to be repeated on one rank and on two, sharded or not."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from tests.alignment.talk import Letter, asked, labelled, pairs

from primum.alignment.answers import LabelledData, PreferenceData
from primum.alignment.conversations import ConversationData
from primum.alignment.grpo import GRPOModule
from primum.alignment.preference import KTOModule, PreferenceModule
from primum.alignment.prompts import PromptData
from primum.alignment.reward import RewardModule
from primum.alignment.rollouts import LocalSampler
from primum.alignment.sft import SFTModule
from primum.judges.rewards.reward import Part, RewardSet
from primum.language.lora import Lora
from primum.language.source import Source
from primum.training.environments import trainer_plugins
from primum.training.progress import StepLoss
from primum.training.resume import ResumeState
from primum.training.strategies import DeepSpeed

ROWS = 40  # ten steps of four


def parts(plan: dict[str, Any]) -> tuple[L.LightningModule, L.LightningDataModule]:
    """Module and data of a plan."""
    source = Source(plan["model"], dtype=plan.get("dtype", "float32"))
    options: dict[str, Any] = {
        "optimizer": partial(torch.optim.SGD, lr=plan.get("rate", 0.1)),
        "adapter": Lora(rank=4) if plan.get("lora") else None,
        "warmup": 0.0,
        "checkpointing": plan.get("checkpointing", False),
    }
    size = 4 // (plan.get("ranks", 1) * plan.get("accumulate", 1))
    kind = plan["kind"]
    if kind == "sft":
        data: Any = ConversationData(source, partial(pairs, ROWS), batch_size=size)
        return SFTModule(source, **options), data
    if kind == "packed":
        data = ConversationData(
            source, partial(pairs, ROWS), batch_size=size, packing=128, max_length=128
        )
        return SFTModule(source, **options), data
    if kind in ("dpo", "reward"):
        data = PreferenceData(source, partial(pairs, ROWS), batch_size=size)
        if kind == "reward":
            return RewardModule(source, **options), data
        return PreferenceModule(source, reference=plan.get("reference", "auto"), **options), data
    if kind == "kto":
        return KTOModule(source, **options), LabelledData(
            source, partial(labelled, ROWS), batch_size=size
        )
    module = GRPOModule(
        source,
        rewards=RewardSet({"it": Part(Letter())}),
        group=4,
        kind=plan.get("loss", "dapo"),
        combine=plan.get("combine", "sum_then_normalise"),
        sampler=LocalSampler(
            plan.get("longest", 6), batch_size=3, sharded=plan.get("sharded", "gather")
        ),
        **options,
    )
    return module, PromptData(source, partial(asked, plan.get("rows", 12)), batch_size=size)


def strategy(name: str) -> Any:
    """A strategy by its name in these plans."""
    return DeepSpeed(stage=int(name[4])) if name.startswith("zero") else name


def fit(plan: dict[str, Any]) -> None:
    """Train as planned, and leave the losses and all weights."""
    folder = Path(plan["folder"])
    L.seed_everything(1, verbose=False)
    loss = StepLoss()
    module, data = parts(plan)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=plan.get("ranks", 1),
        strategy=strategy(plan.get("strategy", "auto")),
        max_epochs=1,
        accumulate_grad_batches=plan.get("accumulate", 1),
        gradient_clip_val=plan.get("clip"),
        use_distributed_sampler=False,
        callbacks=[ResumeState(), loss],
        plugins=trainer_plugins(),
        precision=plan.get("precision", "32-true"),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, datamodule=data)
    whole = trainer.strategy.lightning_module_state_dict()
    if trainer.is_global_zero:
        torch.save({name: value.float() for name, value in whole.items()}, folder / "exported.pt")
        (folder / "trace.json").write_text(json.dumps(loss.trace))


def fit_several(plans: list[dict[str, Any]]) -> None:
    """One launch for many plans: starting processes costs more than these runs."""
    for plan in plans:
        fit(plan)
        torch.distributed.barrier() if torch.distributed.is_initialized() else None
