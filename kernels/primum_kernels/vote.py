# mypy: disable-error-code="no-untyped-def"
"""A supernode's feature by vote: attention of its mean token over all tokens of the image.

Keys and values are the same unit tokens, so each tile is loaded once for both products; the
softmax runs along with them and no logit is stored. After "S2-UniSeg" (AAAI-26), Merge:
V = L2N(softmax(a / sigma) F).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 16


def reference(
    mean: Tensor, area: Tensor, token: Tensor, sigma: float, by_sum: bool, inside: Tensor | None
) -> Tensor:
    """Define the operation for rows of one image: mean (rows, c), token (tokens, c)."""
    logits = mean @ token.T / sigma
    if by_sum:
        logits = logits * area[:, None]
    if inside is not None:
        logits = logits.masked_fill(~inside, -torch.inf)
    pooled = logits.softmax(1) @ token
    return pooled / pooled.norm(dim=1, keepdim=True).clamp(min=1e-12)


@triton.jit
def vote_kernel(
    total, area, token, root, rows, count, feature, tokens, channels, scale,
    BY_SUM: tl.constexpr, REGION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Pool the features of listed rows; CHANNELS covers all channels at once."""
    image = tl.program_id(1).to(tl.int64)
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    used = slot < tl.load(count + image)
    if tl.max(used.to(tl.int32), 0) == 0:
        return
    row = tl.load(rows + image * tokens + slot, used, 0)
    channel = tl.arange(0, CHANNELS)
    within = channel < channels
    place = (image * tokens + row)[:, None] * channels + channel[None]
    mask = used[:, None] & within[None]
    query = tl.load(total + place, mask, 0.0)
    if not BY_SUM:
        size = tl.load(area + image * tokens + row, used, 1)
        query = query / size[:, None].to(tl.float32)
    query = query.to(token.dtype.element_ty)

    peak = tl.full([BLOCK], -float("inf"), tl.float32)
    weight_sum = tl.zeros([BLOCK], tl.float32)
    pooled = tl.zeros([BLOCK, CHANNELS], tl.float32)
    for begin in range(0, tokens, KEYS):
        key_row = begin + tl.arange(0, KEYS)
        known = key_row < tokens
        column = (image * tokens + key_row)[:, None] * channels + channel[None]
        key = tl.load(token + column, known[:, None] & within[None], 0.0)
        logit = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
        voting = used[:, None] & known[None]
        if REGION:
            owner = tl.load(root + image * tokens + key_row, known, -1)
            voting = voting & (owner[None] == row[:, None])
        logit = tl.where(voting, logit, -float("inf"))
        higher = tl.maximum(peak, tl.max(logit, 1))
        calm = tl.where(higher == -float("inf"), 0.0, higher)  # no voter seen yet
        shrink = tl.exp(peak - calm)
        weight = tl.exp(logit - calm[:, None])
        weight_sum = weight_sum * shrink + tl.sum(weight, 1)
        pooled = pooled * shrink[:, None]
        pooled = tl.dot(weight.to(key.dtype), key, pooled, input_precision=PRECISION)
        peak = higher
    pooled = pooled / tl.where(weight_sum > 0, weight_sum, 1.0)[:, None]
    length = tl.sqrt(tl.sum(pooled * pooled, 1))
    tl.store(feature + place, pooled / tl.maximum(length, 1e-12)[:, None], mask)


def vote(
    total: Tensor,
    area: Tensor,
    token: Tensor,
    root: Tensor,
    rows: Tensor,
    count: Tensor,
    feature: Tensor,
    sigma: float,
    by_sum: bool,
    region: bool,
) -> None:
    """Write pooled features of the listed rows.

    Args:
        total: (batch, tokens, channels) float32 sums of a supernode's tokens, in its root's row.
        area: (batch, tokens) int32.
        token: (batch, tokens, channels) unit tokens, in the type the products run in.
        root: (batch, tokens) int32.
        rows: (batch, tokens) int32, of which the first `count` (batch,) are asked for.
        feature: (batch, tokens, channels) float32, written in place.
        sigma: Temperature.
        by_sum: Logits from the sum of the region's affinities instead of their mean.
        region: Only the region's own tokens vote.
    """
    batch, tokens, channels = token.shape
    from primum_kernels.similarity import precision_of

    width = max(16, triton.next_power_of_2(channels))
    vote_kernel[(triton.cdiv(tokens, BLOCK), batch)](
        total, area, token, root, rows, count, feature, tokens, channels, 1 / sigma,
        by_sum, region, precision_of(token), BLOCK, keys_for(token.dtype, width), width,
        num_warps=8, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip


def keys_for(dtype: torch.dtype, width: int) -> int:
    """Tokens a tile: about 64 kB, so that tile and queries fit an A100's shared memory."""
    return max(16, min(64, 65536 // (width * dtype.itemsize)))
