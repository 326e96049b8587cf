"""The authors' released loss: pixels of two overlapping views name the same prototypes."""

import torch
from torch import Tensor
from torch.nn import functional


def spread(tokens: Tensor, clusters: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """How much each token belongs to each cluster.

    Args:
        tokens: (views, tokens, channels).
        clusters: (views, rows, channels), unit length.
        valid: (views, rows) bool; a view without a valid row gives zeros.
        temperature: Of the softmax over cosines.

    Returns:
        (views, tokens, rows).
    """
    cosines = functional.normalize(tokens, dim=-1) @ clusters.transpose(1, 2)
    cosines = (cosines / temperature).masked_fill(~valid[:, None], -torch.inf)
    return cosines.softmax(-1).nan_to_num(0.0)


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The common part of boxes (..., 4) left, top, right, bottom; and whether there is any."""
    shared = torch.cat(
        [
            torch.maximum(first[..., :2], second[..., :2]),
            torch.minimum(first[..., 2:], second[..., 2:]),
        ],
        -1,
    )
    return shared, (shared[..., 2:] > shared[..., :2]).all(-1)


def sampled(maps: Tensor, boxes: Tensor, flips: Tensor, region: Tensor, side: int) -> Tensor:
    """Read a view's map at a regular grid of a region of the image.

    Args:
        maps: (views, channels, rows, columns).
        boxes: (views, 4) where the view lies in the image.
        flips: (views,) bool, the view is mirrored.
        region: (views, 4) of the image.
        side: Rows and columns of the grid.

    Returns:
        (views, channels, side, side).
    """
    at = (torch.arange(side, device=maps.device, dtype=boxes.dtype) + 0.5) / side
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    places = []
    for axis in (0, 1):  # x, then y, as grid_sample expects them
        low, high = region[:, axis, None], region[:, axis + 2, None]
        inside = (low + (high - low) * at - boxes[:, axis, None]) / size[:, axis, None]
        places.append(inside * 2 - 1)
    x = torch.where(flips[:, None], -places[0], places[0])
    grid = torch.stack(
        [x[:, None].expand(-1, side, -1), places[1][:, :, None].expand(-1, -1, side)], -1
    )
    return functional.grid_sample(
        maps, grid.to(maps.dtype), padding_mode="border", align_corners=False
    )
