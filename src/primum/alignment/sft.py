"""Supervised fine-tuning: the model learns to give the answers of the data, whole or by adapter."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from primum.alignment.objectives import negative_log_likelihood, supervised_logits
from primum.language.batches import IGNORED
from primum.language.chat import template_sha256
from primum.language.lora import Lora
from primum.language.source import Source


class SFTModule(LightningModule):
    """Completion-only supervised fine-tuning of a causal language model.

    The loss of an optimizer step is the weighted sum of -log p over its learned tokens divided by
    their weight over all ranks and accumulated micro-batches, so neither changes what is learned.

    Args:
        model: The base model.
        optimizer: Builds the optimizer from the trainable parameters.
        adapter: Train this adapter on a frozen base; None trains every weight.
        warmup: Share of the steps in which the learning rate rises from zero.
        final: Learning rate at the end, as a share of its peak; the fall is a cosine.
        checkpointing: Recompute activations in the backward pass: less memory, a third slower.
    """

    def __init__(
        self,
        model: Source,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        adapter: Lora | None = None,
        warmup: float = 0.1,
        final: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.build_optimizer = model, optimizer
        self.warmup, self.final = warmup, final
        self.tokenizer = model.tokenizer()
        self.model: Any = model.model()  # a PreTrainedModel, or a PeftModel around one
        if adapter is not None:
            self.model = adapter.adapt(self.model)
        if checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
            self.model.enable_input_require_grads()
        self.model.train()  # it comes in evaluation mode, and Lightning leaves modes alone
        self.strict_loading = False  # frozen weights are not in our checkpoints

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        scale, weights = batch.pop("loss_scale"), batch.pop("weights")[:, 1:]
        logits, targets = supervised_logits(self.model, **batch)
        weights = weights[batch["labels"][:, 1:] != IGNORED]
        return negative_log_likelihood(logits, targets, weights) * scale

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        batch.pop("weights")
        logits, targets = supervised_logits(self.model, **batch)
        loss = negative_log_likelihood(logits, targets) / len(targets)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(targets))

    def tokens_in(self, batch: dict[str, Tensor]) -> int:
        """Unpadded tokens, for the throughput monitor."""
        return int(batch["attention_mask"].sum())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trainable = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = self.build_optimizer(trainable)
        steps = int(self.trainer.estimated_stepping_batches)
        rise = max(1, round(self.warmup * steps))

        def share_of_peak(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            fallen = min(1.0, (step - rise) / max(1, steps - rise))
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * fallen)) / 2

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, share_of_peak), "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out: they are the base model, known by its hashes."""
        frozen = {name for name, weight in self.named_parameters() if not weight.requires_grad}
        if "state_dict" in checkpoint:
            checkpoint["state_dict"] = {
                name: value
                for name, value in checkpoint["state_dict"].items()
                if name not in frozen
            }

    def save_pretrained(self, directory: Path, state_dict: dict[str, Tensor]) -> None:
        """Write a plain Hugging Face directory: adapter or weights, tokenizer, template.

        Args:
            directory: An existing folder.
            state_dict: This module's whole state, gathered from all ranks.
        """
        weights = {
            name.removeprefix("model."): value.cpu().contiguous()
            for name, value in state_dict.items()
            if name.startswith("model.")
        }
        self.model.save_pretrained(directory, state_dict=weights)
        self.tokenizer.save_pretrained(directory)
        if self.model.generation_config is not None:
            self.model.generation_config.save_pretrained(directory)

    def manifest_facts(self) -> dict[str, Any]:
        """What the manifest says of this model beside its weights."""
        base = {
            "name": self.source.name,
            "revision": self.source.revision,
            "files": self.source.fingerprint(),
        }
        return {
            "base": base,
            "template_sha256": template_sha256(self.tokenizer),
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }
