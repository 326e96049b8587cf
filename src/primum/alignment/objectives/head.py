"""log p of target tokens straight from hidden states, a slice of the logits at a time.

With 150,000 words in a vocabulary the logits of a long batch, and their gradient, can be larger
than all else in training. Here neither exists as a whole: the backward pass computes slices again.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 1024  # positions whose logits exist at a time
LARGE = 2**28  # bytes of logits from which slices pay for being computed twice
# what an architecture may do to its logits after the head
AFTER_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier",
              "output_multiplier")  # fmt: skip


def backbone_and_head(model: Any) -> tuple[nn.Module, nn.Linear] | None:
    """A model's two parts, None where they cannot be computed apart.

    That is where something happens after the head, where a head is no plain linear layer (an
    adapter, 4 bits), or where a strategy holds its weight elsewhere between two calls.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    config = base.config.get_text_config()
    if any(getattr(config, name, None) not in (None, 1, 1.0) for name in AFTER_HEAD):
        return None
    if type(head) is not nn.Linear or type(head.weight) is not nn.Parameter:
        return None
    if hasattr(head.weight, "ds_id") or head.weight.shape != (head.out_features, head.in_features):
        return None
    backbone = getattr(base, base.base_model_prefix, None)
    return None if backbone is None or backbone is base else (backbone, head)


class _SlicedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, heat: float
    ) -> Tensor:
        picked = hidden.new_empty(len(hidden), dtype=torch.float32)
        totals = torch.empty_like(picked)
        device = hidden.device.type
        # the backward pass runs outside of autocast and must compute the same logits
        autocast = torch.is_autocast_enabled(device)
        ctx.dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        kernel, offset = weight.to(ctx.dtype), None if bias is None else bias.to(ctx.dtype)
        for rows, target, one, total in zip(
            *(part.split(ROWS) for part in (hidden, targets, picked, totals)), strict=True
        ):
            logits = F.linear(rows.to(ctx.dtype), kernel, offset).float().div_(heat)
            one.copy_(logits.gather(1, target[:, None])[:, 0])
            total.copy_(logits.logsumexp(-1))
        ctx.save_for_backward(hidden, weight, bias, targets, totals)
        ctx.heat = heat
        return picked - totals

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, totals = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        to_hidden = torch.empty_like(hidden) if wants_hidden else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None
        kernel, offset = weight.to(ctx.dtype), None if bias is None else bias.to(ctx.dtype)
        start = 0
        for rows, target, total, gradient in zip(
            *(part.split(ROWS) for part in (hidden, targets, totals, gradients[0])), strict=True
        ):
            rows = rows.to(ctx.dtype)
            slope = F.linear(rows, kernel, offset).float().div_(ctx.heat)
            slope.sub_(total[:, None]).exp_().mul_(-gradient[:, None])
            slope.scatter_add_(1, target[:, None], gradient[:, None])
            if ctx.heat != 1.0:
                slope.div_(ctx.heat)
            if to_bias is not None:
                to_bias += slope.sum(0)
            slope = slope.to(ctx.dtype)
            if to_hidden is not None:
                to_hidden[start : start + len(rows)] = slope @ kernel
            if to_weight is not None:
                to_weight += (slope.T @ rows).float()
            start += len(rows)
        return (
            to_hidden,
            None if to_weight is None else to_weight.to(weight.dtype),
            None if to_bias is None else to_bias.to(bias.dtype),
            None,
            None,
        )


def sliced_logprobs(
    hidden: Tensor, head: nn.Linear, targets: Tensor, temperature: float = 1.0
) -> Tensor:
    """log p(target), float32 (n,), from hidden states (n, width)."""
    return _SlicedLogprobs.apply(hidden, head.weight, head.bias, targets, temperature)
