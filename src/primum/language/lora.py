"""Low-rank adapters: which layers get one, how large, and in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from primum.errors import UserError
from primum.extras import require
from primum.language.fused_lora import fuse

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Lora:
    """LoRA (Hu et al., 2021) through PEFT: W + alpha / rank * B A on each chosen layer.

    Args:
        rank: Width of the bottleneck.
        alpha: Scale, divided by `rank`.
        dropout: On the adapter's input, in training only.
        targets: `all-linear` (every linear layer but the output head), or module name endings.
        dora: Learn magnitude and direction apart (DoRA).
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    targets: str | Sequence[str] = "all-linear"
    dora: bool = False

    def adapt(
        self, model: PreTrainedModel, *, float32: bool = True, task: str = "CAUSAL_LM"
    ) -> PeftModel:
        """Freeze the model and add trainable adapters, which change nothing before training.

        Over a bf16 base the adapters are kept in float32, since AdamW's small steps vanish in
        bf16's 8 bits, and multiplied in bf16 (see `multiply_in_base_dtype`).

        Args:
            float32: ZeRO-3 wants one dtype throughout: pass False there.
            task: PEFT's name for what the model is for; `SEQ_CLS` trains its new head as well.
        """
        require("peft", "alignment")
        from peft import LoraConfig, get_peft_model

        if self.rank < 1:
            raise UserError(f"A LoRA rank is at least 1, not {self.rank}")
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            use_dora=self.dora,
            task_type=task,
        )
        try:
            adapted = get_peft_model(model, config, autocast_adapter_dtype=float32)
        except ValueError as error:
            raise UserError(
                f"No adapter could be put on this model: {error}",
                remedy="name layers it has with adapter.targets=[q_proj,v_proj], or all-linear",
            ) from error
        return fuse(multiply_in_base_dtype(adapted))


class CastingLinear(torch.nn.Linear):
    """A linear layer that multiplies in the dtype of its input, whatever its weight is kept in."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return torch.nn.functional.linear(input, self.weight.to(input.dtype), bias)


def multiply_in_base_dtype(adapted: PeftModel) -> PeftModel:
    """Cast each adapter's small weights to the activations' dtype, and not these to float32.

    PEFT casts the activations of every layer to the adapter's float32 and back. On a 135M model in
    bf16 (2 CPU cores, 4 x 64 tokens) a step then costs 1.15 times one with bf16 adapters; casting
    the weights costs 1.03 times. Adapters of the base's own dtype, and DoRA's, stay as they are.
    """
    from peft.tuners.lora import LoraLayer

    for layer in adapted.modules():
        if not isinstance(layer, LoraLayer) or any(layer.use_dora.values()):
            continue
        base = getattr(layer.get_base_layer(), "weight", None)
        halves = [*layer.lora_A.values(), *layer.lora_B.values()]
        if base is None or not base.is_floating_point() or not halves:
            continue
        if all(type(half) is torch.nn.Linear for half in halves):
            layer.cast_input_dtype_enabled = False
            for half in halves:
                half.__class__ = CastingLinear
    return adapted
