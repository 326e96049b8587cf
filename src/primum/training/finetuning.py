"""What fine-tuning a published model shares: the course of the learning rate, and what is kept."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

OptimizerBuilder = Callable[[Iterable[nn.Parameter]], Optimizer]


class FineTuning(LightningModule):
    """A module whose `model` came with weights, some of which may stay as they are.

    Args:
        optimizer: Builds the optimizer from the trainable parameters.
        warmup: Share of the steps in which the learning rate rises from zero.
        final: Learning rate at the end, as a share of its peak; the fall is a cosine.
    """

    def __init__(self, optimizer: OptimizerBuilder, warmup: float, final: float) -> None:
        super().__init__()
        self.build_optimizer, self.warmup, self.final = optimizer, warmup, final
        self.model: Any = None  # a PreTrainedModel, or a PeftModel around one
        self.strict_loading = False  # frozen weights are not in our checkpoints

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trainable = [weight for weight in self.parameters() if weight.requires_grad]
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
        named = self.named_parameters(remove_duplicate=False)  # tied weights have two names
        frozen = {name for name, weight in named if not weight.requires_grad}
        if "state_dict" in checkpoint:
            checkpoint["state_dict"] = {
                name: value
                for name, value in checkpoint["state_dict"].items()
                if name not in frozen
            }

    def model_weights(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of `model` in this module's whole state, by the model's own names."""
        return {
            name.removeprefix("model."): value.cpu().contiguous()
            for name, value in state_dict.items()
            if name.startswith("model.")
        }
