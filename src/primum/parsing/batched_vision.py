"""Pixtral over pictures of one size as a batch.

Transformers packs all pictures into one sequence with a dense block mask, whose cost grows with the
square of the batch; pictures of equal size need no mask at all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def encode(model: Any, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Patches and visual tokens of LightOnOCR's encoder.

    Args:
        model: A `LightOnOcrForConditionalGeneration`.
        pixels: (pictures, 3, height, width), height and width multiples of a visual token.

    Returns:
        Patch features (pictures, rows, columns, width), and for each picture its visual tokens
        (tokens, width of the decoder), as `get_image_features` gives them.
    """
    inner = model.model
    vision = inner.vision_encoder
    patches = vision.patch_conv(pixels.to(vision.dtype))
    count, _, rows, columns = patches.shape
    hidden = vision.ln_pre(patches.flatten(2).transpose(1, 2))
    # positions of transformers' own layout: row by row, on a grid of the largest picture
    most = vision.config.image_size // vision.config.patch_size
    grid = torch.arange(rows)[:, None] * most + torch.arange(columns)[None]
    position_ids = grid.flatten()[None].to(hidden.device)
    turns = vision.patch_positional_embedding(hidden, position_ids)
    for layer in vision.transformer.layers:
        hidden = layer(hidden, attention_mask=None, position_embeddings=turns)
    size = (rows * vision.config.patch_size, columns * vision.config.patch_size)
    merged = inner.vision_projection(hidden.flatten(0, 1), [size] * count)
    return hidden.view(count, rows, columns, -1), list(merged.chunk(count))
