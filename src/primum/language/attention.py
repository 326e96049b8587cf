"""Attention within each tree of a row (see `primum.language.packing`), for any model.

Transformers would make one mask over the whole row, quadratic in its length. Here each tree attends
alone, so a row costs what its trees cost.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from primum.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from primum.language.packing import Sizes

NAME = "primum_trees"


def read_trees(model: PreTrainedModel) -> bool:
    """Let a model take rows of trees; other batches are computed as before.

    Returns:
        Whether it can. Models whose attention is not PyTorch's `sdpa` stay as they are.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation not in ("sdpa", NAME):
        return False
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # for batches that are not rows of trees
    model.set_attn_implementation(NAME)
    return True


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    trees: Sequence[Sizes] | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of a row (1, heads, time, width) of trees, or PyTorch's usual one without trees."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    if trees is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise UserError(
                f"This model's attention has a `{name}`, which rows without padding do not know",
                remedy="data.packing=null data.share_prompts=false",
            )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # PyTorch's own grouping leaves its fast kernels as soon as there is a mask
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    lengths = [sum(sizes) for sizes in trees]
    parts = zip(*(one.split(lengths, 2) for one in (query, key, value)), trees, strict=True)
    seen = []
    for q, k, v, sizes in parts:
        plain = len(sizes) == 1 and (sliding_window is None or sizes[0] <= sliding_window)
        mask = None if plain else visible(sizes, sliding_window, q.device)
        seen.append(
            F.scaled_dot_product_attention(
                q, k, v, mask, dropout, is_causal=plain and sizes[0] > 1, scale=scaling
            )
        )
    return torch.cat(seen, 2).transpose(1, 2), None


@lru_cache(maxsize=64)
def visible(sizes: Sizes, window: int | None, device: torch.device) -> Tensor:
    """Which token (row) of a tree sees which (column), boolean (time, time).

    >>> visible((1, 1, 2), None, torch.device("cpu")).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    """
    part = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    place = torch.cat(
        [torch.arange(size) + (sizes[0] if number else 0) for number, size in enumerate(sizes)]
    )
    seen = (part[:, None] == part) | (part == 0)
    distance = place[:, None] - place
    seen &= distance >= 0
    if window is not None:
        seen &= distance < window
    return seen.to(device)
