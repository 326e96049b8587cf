"""Boxes as detectron2 counts them: anchors, box coding, levels, pooling, pasting.

Each differs in a detail from torchvision's: anchors are not rounded, regions are pooled with half a
pixel of shift (`aligned`), and masks are sampled at pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

LARGEST = math.log(1000 / 16)  # growth of a box in one step


def anchors(
    height: int,
    width: int,
    stride: int,
    size: float,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    like: Tensor | None = None,
) -> Tensor:
    """(height * width * ratios, 4) boxes (x0, y0, x1, y1), positions in raster order.

    Args:
        height, width: Of the feature map.
        stride: Pixels between its positions; the first is at 0.
        size: Side of a square of the same area.
        ratios: Height over width.
    """
    make = torch.tensor if like is None else like.new_tensor
    shapes = [(math.sqrt(size * size / ratio), ratio) for ratio in ratios]
    base = make([[-w / 2, -w * r / 2, w / 2, w * r / 2] for w, r in shapes])
    y = torch.arange(height, dtype=base.dtype, device=base.device) * stride
    x = torch.arange(width, dtype=base.dtype, device=base.device) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    shift = torch.stack([grid_x, grid_y, grid_x, grid_y], -1).view(-1, 1, 4)
    return (shift + base).view(-1, 4)


def decode(deltas: Tensor, boxes: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """(n, 4) boxes moved and scaled by (n, 4) predicted deltas (Girshick et al., 2014).

    Args:
        deltas: Shift of the centre in box sides, and logarithms of growth, times `weights`.
        boxes: (n, 4) corners.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + sides / 2
    moved = deltas / deltas.new_tensor(weights)
    centre = centre + moved[:, :2] * sides
    sides = sides * moved[:, 2:].clamp(max=LARGEST).exp()
    return torch.cat([centre - sides / 2, centre + sides / 2], 1)


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes cut off at the picture's border."""
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def levels(boxes: Tensor, least: int = 2, most: int = 5) -> Tensor:
    """(n,) pyramid level of each box: a square of 224 pixels belongs to level 4 (FPN, eq. 1)."""
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0)
    level = (4 + torch.log2(area.sqrt() / 224 + 1e-8)).floor()
    return level.clamp(least, most).long()


def pool(features: Sequence[Tensor], boxes: Tensor, size: int) -> Tensor:
    """(n, channels, size, size) features of boxes, each from its own level.

    Args:
        features: Levels 2 to 5 of one picture, (1, channels, rows, columns), strides 4 to 32.
        boxes: (n, 4) in pixels.
        size: Bins a side; each takes ceil(box / size) samples a side, half a pixel shifted.
    """
    from torchvision.ops import roi_align

    made = boxes.new_zeros(len(boxes), features[0].shape[1], size, size)
    level = levels(boxes)
    for number, feature in enumerate(features):
        own = (level == number + 2).nonzero()[:, 0]
        if len(own):
            made[own] = roi_align(
                feature, [boxes[own]], size, 1 / (4 << number), sampling_ratio=0, aligned=True
            ).to(made.dtype)
    return made


def paste(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """(n, height, width) probabilities of small masks (n, m, m) laid into their boxes."""
    x0, y0, x1, y1 = boxes.unbind(1)
    y = torch.arange(height, dtype=boxes.dtype, device=boxes.device) + 0.5
    x = torch.arange(width, dtype=boxes.dtype, device=boxes.device) + 0.5
    y = (y - y0[:, None]) / (y1 - y0)[:, None] * 2 - 1
    x = (x - x0[:, None]) / (x1 - x0)[:, None] * 2 - 1
    shape = (len(masks), height, width)
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], -1)
    return grid_sample(masks[:, None], grid, align_corners=False)[:, 0]
