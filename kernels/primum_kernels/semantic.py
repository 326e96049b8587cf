# mypy: disable-error-code="no-untyped-def"
"""Semantic pooling: the largest supernodes as a complete graph, merged wherever they lie.

Their relations to all voters are (chosen, voters), so nothing grows with the square of the tokens;
a tile of pairs is compared at a time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from primum_kernels.components import unite
from primum_kernels.similarity import size_weight

TILE, VOTERS = 16, 32


def reference(feature: Tensor, relation: Tensor, weights: tuple[float, float]) -> Tensor:
    """Define the operation for one image: similarity of every two rows, (rows, rows)."""
    gap = (relation[:, None] - relation[None]).abs().mean(-1)
    return weights[0] * feature @ feature.T + weights[1] * (1 - gap)


@triton.jit
def pairs_kernel(
    alike, relation, area, known, similar, chosen, voters, tokens,
    feature_weight, spatial_weight, threshold, balance,
    PAPER: tl.constexpr, STRICT: tl.constexpr, BALANCED: tl.constexpr,
    TILE: tl.constexpr, VOTERS: tl.constexpr,
):  # fmt: skip
    """Similarity of a tile of pairs, -4 where one does not pass or is named twice."""
    image = tl.program_id(2).to(tl.int64)
    one = tl.program_id(0) * TILE + tl.arange(0, TILE)
    other = tl.program_id(1) * TILE + tl.arange(0, TILE)
    size = tl.load(known + image)
    mask = (one < chosen)[:, None] & (other < chosen)[None]
    place = image * chosen * chosen + one[:, None] * chosen + other[None]
    asked = mask & (one[:, None] < other[None]) & (other < size)[None]
    score = tl.load(alike + place, asked, -4.0).to(tl.float32)
    if PAPER:
        able = asked & (feature_weight * score + spatial_weight >= threshold - 1e-5)
        gap = tl.zeros([TILE, TILE], tl.float32)
        if tl.max(tl.max(able.to(tl.int32), 1), 0) > 0:
            for begin in range(0, voters, VOTERS):
                voter = begin + tl.arange(0, VOTERS)
                within = (voter < voters)[None]
                row = (image * chosen + one)[:, None] * voters + voter[None]
                column = (image * chosen + other)[:, None] * voters + voter[None]
                x = tl.load(relation + row, (one < chosen)[:, None] & within, 0.0)
                y = tl.load(relation + column, (other < chosen)[:, None] & within, 0.0)
                gap += tl.sum(tl.abs(x[:, None, :] - y[None, :, :]), 2)
        score = feature_weight * score + spatial_weight * (1.0 - gap / voters)
        asked = able
    if BALANCED:
        size = tl.load(area + image * chosen + one, one < chosen, 1)
        opposite = tl.load(area + image * chosen + other, other < chosen, 1)
        weight = size_weight(size[:, None], opposite[None], tokens, balance)
        score = 1.0 - (1.0 - score) * weight
    passes = asked & (score > threshold) if STRICT else asked & (score >= threshold)
    tl.store(similar + place, tl.where(passes, score, -4.0), mask)


def semantic_roots(
    feature: Tensor,
    total: Tensor,
    area: Tensor,
    voter: Tensor,
    root: Tensor,
    chosen: Tensor,
    known: Tensor,
    threshold: float,
    weights: tuple[float, float] | None,
    strict: bool,
    balance: float = 0.0,
) -> Tensor:
    """Roots after grouping the chosen supernodes.

    Args:
        feature: (batch, tokens, channels) float32; the chosen rows are up to date.
        chosen: (batch, most) int64 rows in raster order, of which the first `known` (batch,) count.
        Others as for `similarity.similarities`.
    """
    batch, most = chosen.shape
    channels, voters = feature.shape[2], voter.shape[1]
    index = chosen[..., None].expand(-1, -1, channels)
    rows = feature.gather(1, index)
    alike = rows @ rows.mT
    relation, areas = alike, area.gather(1, chosen)
    if weights is not None:
        mean = total.gather(1, index) / areas[..., None]
        relation = (mean.to(voter.dtype) @ voter.mT).float()
    similar = torch.empty_like(alike)
    tiles = triton.cdiv(most, TILE)
    pairs_kernel[(tiles, tiles, batch)](
        alike, relation, areas, known, similar, most, voters, feature.shape[1],
        *(weights or (1.0, 0.0)), threshold, balance,
        weights is not None, strict, balance > 0, TILE, VOTERS, enable_fp_fusion=False,
    )  # fmt: skip
    one = chosen[:, :, None].expand(batch, most, most)
    pairs = torch.stack([one, one.mT], 1).flatten(2).to(torch.int32)
    return unite(root, pairs, similar.view(batch, most * most))
