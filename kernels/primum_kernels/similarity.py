# mypy: disable-error-code="no-untyped-def"
"""How alike neighbouring supernodes are, and how alike the whole image sees them.

The spatial part is one minus the mean over voters of |(mean_i - mean_j) . f|: a product whose rows
are summed as they are made, so no affinity is ever stored, at any level. Only pairs whose cosine
leaves them a chance take part; they are listed on the device.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, CHANNELS, VOTERS, SPLITS = 32, 64, 64, 8
APART = tl.constexpr(-4.0)  # written where a pair does not pass or is no pair any more


def reference(
    feature: Tensor, mean: Tensor, voter: Tensor, one: Tensor, other: Tensor, weights: Tensor
) -> Tensor:
    """Define the operation: similarity of row pairs of one image, (pairs,)."""
    alike = (feature[one] * feature[other]).sum(1)
    gap = ((mean[one] - mean[other]) @ voter.T).abs().mean(1)
    return weights[0] * alike + weights[1] * (1 - gap)


@triton.jit
def size_weight(one, other, tokens, balance):
    """What a distance counts; see `agglomeration.size_weight`."""
    one, other = one.to(tl.float32), other.to(tl.float32)
    return tl.exp(balance * tl.log(4.0 * one * other / ((one + other) * tokens)))


@triton.jit
def cosine_kernel(
    feature, area, root, pairs, alike, similar, listed, count, passed, active,
    tokens, channels, edges, bound, balance,
    PAPER: tl.constexpr, STRICT: tl.constexpr, BALANCED: tl.constexpr,
    BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Cosines of live pairs. For `paper`, list those that reach `bound`; else decide at once."""
    image = tl.program_id(1).to(tl.int64)
    edge = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = edge < edges
    going = edges * tl.load(active + image)  # none of a finished image's
    first, second = tl.load(pairs + edge, inside, 0), tl.load(pairs + edges + edge, inside, 0)
    one = tl.load(root + image * tokens + first, inside, 0)
    other = tl.load(root + image * tokens + second, inside, 0)
    live = (edge < going) & (one != other)
    dot = tl.zeros([BLOCK], tl.float32)
    if tl.max(live.to(tl.int32), 0) > 0:
        for start in range(0, channels, CHANNELS):
            channel = start + tl.arange(0, CHANNELS)
            mask = live[:, None] & (channel < channels)[None]
            row = (image * tokens + one)[:, None] * channels + channel[None]
            opposite = (image * tokens + other)[:, None] * channels + channel[None]
            x, y = tl.load(feature + row, mask, 0.0), tl.load(feature + opposite, mask, 0.0)
            dot += tl.sum(x * y, 1)
    if BALANCED:
        size = tl.load(area + image * tokens + one, live, 1)
        opposite = tl.load(area + image * tokens + other, live, 1)
        dot = 1.0 - (1.0 - dot) * size_weight(size, opposite, tokens, balance)
    passes = live & (dot > bound) if STRICT and not PAPER else live & (dot >= bound)
    place = image * edges
    tl.store(alike + place + edge, dot, inside)
    if PAPER:
        tl.store(similar + place + edge, tl.full([BLOCK], APART, tl.float32), inside)
        rank = tl.cumsum(passes.to(tl.int32), 0)
        begin = tl.atomic_add(count + image, tl.max(rank, 0), sem="relaxed")
        tl.store(listed + place + begin + rank - 1, edge, passes)
    else:
        tl.store(similar + place + edge, tl.where(passes, dot, APART), inside)
        tl.atomic_add(passed + image, tl.sum(passes.to(tl.int32), 0), sem="relaxed")


@triton.jit
def gap_kernel(
    total, area, root, pairs, listed, count, gap, tokens, channels, edges,
    BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Difference of the means of each listed pair, (edges, channels) in the voters' type."""
    image = tl.program_id(1).to(tl.int64)
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    used = slot < tl.load(count + image)
    if tl.max(used.to(tl.int32), 0) == 0:
        return
    edge = tl.load(listed + image * edges + slot, used, 0)
    first, second = tl.load(pairs + edge, used, 0), tl.load(pairs + edges + edge, used, 0)
    one = image * tokens + tl.load(root + image * tokens + first, used, 0)
    other = image * tokens + tl.load(root + image * tokens + second, used, 0)
    size, opposite = tl.load(area + one, used, 1), tl.load(area + other, used, 1)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        mask = used[:, None] & (channel < channels)[None]
        x = tl.load(total + one[:, None] * channels + channel[None], mask, 0.0)
        y = tl.load(total + other[:, None] * channels + channel[None], mask, 0.0)
        value = x / size[:, None].to(tl.float32) - y / opposite[:, None].to(tl.float32)
        row = (image * edges + slot)[:, None] * channels + channel[None]
        tl.store(gap + row, value.to(gap.dtype.element_ty), mask)


@triton.jit
def votes_kernel(
    gap, voter, count, partial, voters, channels, edges,
    PRECISION: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK: tl.constexpr, VOTERS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sum over a share of the voters of |gap . voter|, listed pair by listed pair."""
    split, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    used = slot < tl.load(count + image)
    if tl.max(used.to(tl.int32), 0) == 0:
        return
    total = tl.zeros([BLOCK], tl.float32)
    row = (image * edges + slot)[:, None] * channels
    for begin in range(split * VOTERS, voters, SPLITS * VOTERS):
        asked = begin + tl.arange(0, VOTERS)
        product = tl.zeros([BLOCK, VOTERS], tl.float32)
        for start in range(0, channels, CHANNELS):
            channel = start + tl.arange(0, CHANNELS)
            within = channel < channels
            x = tl.load(gap + row + channel[None], used[:, None] & within[None], 0.0)
            column = (image * voters + asked)[None] * channels + channel[:, None]
            y = tl.load(voter + column, (asked < voters)[None] & within[:, None], 0.0)
            product = tl.dot(x, y, product, input_precision=PRECISION)
        total += tl.sum(tl.abs(product), 1)
    tl.store(partial + (image * SPLITS + split) * edges + slot, total, used)


@triton.jit
def decide_kernel(
    alike, partial, listed, count, similar, passed, voters, edges,
    feature_weight, spatial_weight, threshold,
    STRICT: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Weigh both similarities of each listed pair and keep what reaches the threshold."""
    image = tl.program_id(1).to(tl.int64)
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    used = slot < tl.load(count + image)
    edge = tl.load(listed + image * edges + slot, used, 0)
    gap = tl.zeros([BLOCK], tl.float32)
    for split in tl.static_range(SPLITS):  # a fixed order, so the same bits every time
        gap += tl.load(partial + (image * SPLITS + split) * edges + slot, used, 0.0)
    score = feature_weight * tl.load(alike + image * edges + edge, used, 0.0)
    score += spatial_weight * (1.0 - gap / voters)
    passes = used & (score > threshold) if STRICT else used & (score >= threshold)
    tl.store(similar + image * edges + edge, tl.where(passes, score, APART), used)
    tl.atomic_add(passed + image, tl.sum(passes.to(tl.int32), 0), sem="relaxed")


def similarities(
    feature: Tensor,
    total: Tensor,
    area: Tensor,
    voter: Tensor,
    root: Tensor,
    pairs: Tensor,
    active: Tensor,
    threshold: float,
    weights: tuple[float, float] | None,
    strict: bool,
    balance: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Similarity of every grid edge whose ends lie in different supernodes and pass.

    Args:
        feature: (batch, tokens, channels) float32 unit rows, a supernode in its root's row.
        total: Like feature: the sum of its tokens.
        area: (batch, tokens) int32.
        voter: (batch, voters, channels) unit tokens, in the type the products run in.
        root: (batch, tokens) int32.
        pairs: (2, edges) int32 tokens of the grid edges.
        active: (batch,) int32; images at zero have no passing pair.
        weights: Of cosine and spatial similarity; None for the cosine alone.
        balance: Of sizes, without weights; see `agglomeration.size_weight`.

    Returns:
        (batch, edges) float32, -4 where a pair does not pass, and the number of passing pairs.
    """
    batch, tokens, channels = feature.shape
    edges, voters = pairs.shape[1], voter.shape[1]
    alike = torch.empty(batch, edges, device=feature.device)
    similar, passed = torch.empty_like(alike), torch.zeros_like(active)
    count = torch.zeros_like(active)
    if not edges:
        return similar, passed
    listed = torch.empty(batch, edges, dtype=torch.int32, device=feature.device)
    paper = weights is not None
    # spatial similarity is at most one; a little slack for rounding
    bound = (threshold - weights[1]) / weights[0] - 1e-5 if weights is not None else threshold
    tiles = triton.cdiv(edges, BLOCK)
    cosine_kernel[(tiles, batch)](
        feature, area, root, pairs, alike, similar, listed, count, passed, active,
        tokens, channels, edges, bound, balance, paper, strict, balance > 0, BLOCK, CHANNELS,
        enable_fp_fusion=False,
    )  # fmt: skip
    if weights is None:
        return similar, passed
    gap = torch.empty(batch, edges, channels, dtype=voter.dtype, device=feature.device)
    partial = torch.empty(batch, SPLITS, edges, device=feature.device)
    gap_kernel[(tiles, batch)](
        total, area, root, pairs, listed, count, gap, tokens, channels, edges, BLOCK, CHANNELS,
        enable_fp_fusion=False,
    )  # fmt: skip
    votes_kernel[(tiles, SPLITS, batch)](
        gap, voter, count, partial, voters, channels, edges,
        precision_of(voter), SPLITS, BLOCK, VOTERS, CHANNELS, enable_fp_fusion=False,
    )  # fmt: skip
    decide_kernel[(tiles, batch)](
        alike, partial, listed, count, similar, passed, voters, edges, *weights, threshold,
        strict, SPLITS, BLOCK, enable_fp_fusion=False,
    )  # fmt: skip
    return similar, passed


def precision_of(values: Tensor) -> str:
    """float32 products stay float32; half types have but one way."""
    return "ieee" if values.dtype == torch.float32 else "tf32"
