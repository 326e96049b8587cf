"""LoRA's three products as one operation, without the copies that PEFT makes between them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft import PeftModel


class LowRankLinear(torch.autograd.Function):
    """y = x W' + b + scale * (x A') B' for a frozen W, with x (..., in) and y (..., out).

    The low-rank product is added in place by the multiplication that makes it, forward and
    backward, so neither it nor its scaled copy is ever stored.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        narrow = rows @ a.t()
        y = torch.nn.functional.linear(rows, weight, bias).addmm_(narrow, b.t(), alpha=scale)
        ctx.save_for_backward(rows, narrow, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, narrow, weight, a, b = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_narrow = (grad @ b).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_narrow, a).view(ctx.shape)
        grad_a = grad_narrow.t() @ rows
        grad_b = (grad.t() @ narrow).mul_(ctx.scale)
        return grad_x, None, None, grad_a, grad_b, None


def fuse(adapted: PeftModel) -> PeftModel:
    """Let each plain LoRA layer multiply through `LowRankLinear`.

    One training step of a 135M model in float32 takes 0.92 of its time so (2 CPU cores, 8 x 110
    tokens). A layer falls back to PEFT's own forward for whatever is not the plain case at the
    time of the call: several adapters, dropout, DoRA, merged or switched-off adapters, trained or
    quantised base weights, autocast, and weights that a strategy has sharded.
    """
    from peft.tuners.lora import Linear

    for layer in adapted.modules():
        if type(layer) is Linear:
            layer.__class__ = _fused_linear()
    return adapted


@cache
def _fused_linear() -> type:
    """PEFT's LoRA layer with another forward; made on first use, as PEFT is an extra."""
    from peft.tuners.lora import Linear

    class FusedLinear(Linear):
        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if args or kwargs or not _plain(self, x):
                return super().forward(x, *args, **kwargs)
            (name,) = self.active_adapters
            base, a, b = self.get_base_layer(), self.lora_A[name].weight, self.lora_B[name].weight
            return LowRankLinear.apply(
                x, base.weight, base.bias, a.to(x.dtype), b.to(x.dtype), self.scaling[name]
            )

    return FusedLinear


def _plain(layer: Any, x: Tensor) -> bool:
    active = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(active) != 1 or active[0] not in layer.lora_A:
        return False
    base, name = layer.get_base_layer(), active[0]
    weight, bias = base.weight, base.bias
    return (
        type(base) is torch.nn.Linear
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and name not in layer.lora_variant
        and not weight.requires_grad
        and (bias is None or not bias.requires_grad)
        and weight.dtype == x.dtype
        and not torch.is_autocast_enabled(x.device.type)
        and not hasattr(weight, "ds_id")  # ZeRO-3 gathers a weight where its module is called
        and type(weight) in (Tensor, torch.nn.Parameter)  # nor FSDP's shards
        and not (base._forward_hooks or base._forward_pre_hooks)
    )
