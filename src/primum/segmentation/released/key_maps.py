"""From the keys of released DINO, DINOv2 and DINOv3 files to those of timm's networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from primum.segmentation.released.coverage import coverage, require_whole

WRAPPED = re.compile(r"^(?:module\.)?(?:backbone\.|encoder\.|student\.|teacher\.)*")
# what pre-training needed and features do not
PRETRAINING = re.compile(
    r"(?:^|\.)(?:mask_token|head\..*|dino_head\..*|ibot_head\..*|last_layer\..*)$"
    r"|^local_cls_norm\.|rope_embed\.periods$|qkv\.bias_mask$"
)


def rename(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """A released DINO state under timm's keys, and the keys that were left out.

    - DINO (Caron et al., 2021): timm's own keys, perhaps below `module.` or `backbone.`, with a
      projection head behind them.
    - DINOv2 (Oquab et al., 2023): blocks may be numbered in chunks; SwiGLU's `w12`, `w3` are `fc1`,
      `fc2`; with registers the class token carries its position and `pos_embed` has none for it.
    - DINOv3 (Simeoni et al., 2025): `storage_tokens`, `ls1.gamma`, a key bias that is always zero.

    Args:
        state: As released; may already be timm's.
        wanted: timm's state, which tells whether it has query and value biases or none.
    """
    made: dict[str, Tensor] = {}
    dropped: list[str] = []
    third = any("storage_tokens" in key for key in state)
    for given, tensor in state.items():
        key = WRAPPED.sub("", given)
        if PRETRAINING.search(key):
            dropped.append(given)
            continue
        key = re.sub(r"^blocks\.\d+\.(?=\d+\.)", "blocks.", key)  # chunk number before the block's
        key = key.replace("mlp.w12.", "mlp.fc1.")
        if third:
            key = key.replace("storage_tokens", "reg_token")
            key = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key)
            key = key.replace("mlp.w1.", "mlp.fc1_g.").replace("mlp.w2.", "mlp.fc1_x.")
            if key.endswith("attn.qkv.bias") and key not in wanted:
                query, at_key, value = tensor.chunk(3)
                stem = key.removesuffix("qkv.bias")
                if at_key.nan_to_num().any():
                    raise ValueError(f"{given}: the bias of the keys is not zero")
                if f"{stem}q_bias" in wanted:
                    made[f"{stem}q_bias"], made[f"{stem}v_bias"] = query, value
                elif query.any() or value.any():
                    made[key] = tensor  # a network without biases cannot hold these: unexpected
                else:
                    dropped.append(given)
                continue
        made[key.replace("mlp.w3.", "mlp.fc2.")] = tensor
    if "register_tokens" in made:
        made["reg_token"] = made.pop("register_tokens")
        made["cls_token"] = made["cls_token"] + made["pos_embed"][:, :1]
        made["pos_embed"] = made["pos_embed"][:, 1:]
    return made, dropped


def fit_state(
    state: Mapping[str, Tensor], network: nn.Module, name: str, file: str | Path | None = None
) -> dict[str, Tensor]:
    """A released or timm state, ready for `network.load_state_dict`.

    Position embeddings of another grid are resampled as timm does it.

    Raises:
        UserError: Keys are left over or missing; it lists them.
    """
    wanted = network.state_dict()
    made, dropped = rename(state, wanted)
    place = made.get("pos_embed")
    if place is not None and "pos_embed" in wanted and place.shape != wanted["pos_embed"].shape:
        from timm.layers import resample_abs_pos_embed

        own = getattr(network, "num_prefix_tokens", 1)
        prefix = 0 if getattr(network, "no_embed_class", False) else own
        made["pos_embed"] = resample_abs_pos_embed(
            place,
            new_size=list(network.patch_embed.grid_size),  # type: ignore[union-attr,arg-type]
            num_prefix_tokens=prefix,
        )
    require_whole(coverage(made, wanted, dropped), name, file)
    for key, tensor in wanted.items():
        made.setdefault(key, torch.zeros_like(tensor))  # counters of batch norms
    return made
