"""The same little training run on one process or many, sharded or not: its losses must agree."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from tests.training.run import Points, count
from torch import nn
from torch.utils.data import DataLoader

from primum.training.environments import trainer_plugins
from primum.training.loading import ResumableLoader
from primum.training.progress import StepLoss
from primum.training.resume import ResumeState
from primum.training.strategies import DeepSpeed


class LowRank(nn.Module):
    """A frozen linear map with a trainable update of rank 2, as LoRA adds it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.down = nn.Linear(width, 2, bias=False)
        self.up = nn.Linear(2, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(x) + self.up(self.down(x))


class Regression(L.LightningModule):
    """SGD on a weighted loss: any wrong factor in a gradient shows at once."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.plan = plan
        torch.manual_seed(0)
        middle = LowRank(16) if plan.get("low_rank") else nn.Linear(16, 16)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), middle, nn.Linear(16, 8, bias=False))
        self.tied = self.net[3]  # the same weights under a second name
        if plan.get("low_rank"):
            self.net[0].requires_grad_(False)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        weight = 1 + (batch["id"] % 2 == 0)
        errors = (self.net(batch["x"]) - batch["x"].flip(1)).square().sum(1)
        return (errors * weight).sum() * batch["loss_scale"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trainable = [weight for weight in self.parameters() if weight.requires_grad]
        return torch.optim.SGD(trainable, self.plan.get("rate", 0.02), momentum=0.5)

    def train_dataloader(self) -> DataLoader:
        return ResumableLoader(Points(37), self.trainer, batch_size=2, seed=3, weigh=count)


def fit(plan: dict[str, Any]) -> None:
    """Train, export on every rank, save when asked to, and write down the losses."""
    folder = Path(plan["folder"])
    strategy = plan.get("strategy", "auto")
    if strategy.startswith("zero"):
        strategy = DeepSpeed(stage=int(strategy[4]))
    loss = StepLoss()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=plan.get("devices", 1),
        num_nodes=plan.get("nodes", 1),
        strategy=strategy,
        precision=plan.get("precision", "32-true"),
        max_epochs=plan.get("epochs", 2),
        accumulate_grad_batches=plan.get("accumulate", 1),
        gradient_clip_val=plan.get("clip"),
        use_distributed_sampler=False,
        callbacks=[ResumeState(), loss, *([SaveAt(plan)] if "save_at" in plan else [])],
        plugins=trainer_plugins(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    module = Language(plan) if "model" in plan else Regression(plan)
    trainer.fit(module, ckpt_path=plan.get("resume"), weights_only=True)
    whole = trainer.strategy.lightning_module_state_dict()
    if trainer.is_global_zero:
        torch.save(whole, folder / "exported.pt")
        (folder / "trace.json").write_text(json.dumps(loss.trace))


class SaveAt(L.Callback):
    """Saves after some micro-batch, in the middle of everything."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 in self.plan["save_at"]:
            trainer.save_checkpoint(Path(self.plan["folder"]) / "checkpoints" / "last.ckpt")


class Language(L.LightningModule):
    """A tiny language model, loaded at once or only when the strategy can shard it."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.plan = plan
        self.model: Any = None if plan["late"] else self.load()

    def load(self) -> nn.Module:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.plan["model"], dtype=torch.float32)

    def configure_model(self) -> None:
        if self.model is None:
            self.model = self.load()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.model(input_ids=batch, labels=batch).loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self) -> DataLoader:
        rows = torch.arange(160).view(8, 20) % 50
        half = rows[self.global_rank :: self.trainer.world_size]
        return DataLoader(half, batch_size=4 // self.trainer.world_size)  # type: ignore[arg-type]
