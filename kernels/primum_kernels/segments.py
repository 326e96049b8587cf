# mypy: disable-error-code="no-untyped-def"
"""Sums over supernodes that have just merged, and lists of the rows that need work.

A supernode lives in the row of its first token. When it joins another, its row is added to that
one's and never looked at again, so over a whole run each row is added at most once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, CHANNELS = 16, 64


def reference(values: Tensor, before: Tensor, root: Tensor) -> Tensor:
    """Define the operation: rows of former roots are added to their new roots' rows."""
    out = values.clone()
    for image in range(len(values)):
        for row, target in enumerate(root[image].tolist()):
            if int(before[image, row]) == row and target != row:
                out[image, target] += values[image, row]
    return out


@triton.jit
def add_kernel(values, before, root, tokens, channels, BLOCK: tl.constexpr, CHANNELS: tl.constexpr):
    """Add the rows of former roots to their new roots, in whatever order."""
    image = tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = row < tokens
    target = tl.load(root + image * tokens + row, inside, 0)
    moves = inside & (tl.load(before + image * tokens + row, inside, -1) == row) & (target != row)
    if tl.max(moves.to(tl.int32), 0) > 0:
        mask = moves[:, None] & (channel < channels)[None]
        values += image * tokens * channels
        add = tl.load(values + row[:, None] * channels + channel[None], mask, 0)
        place = target.to(tl.int64)[:, None] * channels + channel[None]
        tl.atomic_add(values + place, add, mask, sem="relaxed")


@triton.jit
def ordered_kernel(values, before, root, order, begin, tokens, channels, CHANNELS: tl.constexpr):
    """The same, a root a program, its members in raster order: the same bits every time."""
    image = tl.program_id(2).to(tl.int64)
    row = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    if tl.load(root + image * tokens + row) != row:
        return
    values += image * tokens * channels
    total = tl.load(values + row * channels + channel, channel < channels, 0)
    start = tl.load(begin + image * (tokens + 1) + row)
    for place in range(start, tl.load(begin + image * (tokens + 1) + row + 1)):
        member = tl.load(order + image * tokens + place)
        former = tl.load(before + image * tokens + member)
        width = tl.where(former == member, tl.where(member != row, channels, 0), 0)
        total += tl.load(values + member * channels + channel, channel < width, 0)
    tl.store(values + row * channels + channel, total, channel < channels)


@triton.jit
def collect_kernel(wanted, rows, count, tokens, BLOCK: tl.constexpr):
    """List the wanted rows, in whatever order."""
    image = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    chosen = tl.load(wanted + image * tokens + row, row < tokens, 0) != 0
    rank = tl.cumsum(chosen.to(tl.int32), 0)
    begin = tl.atomic_add(count + image, tl.max(rank, 0), sem="relaxed")
    tl.store(rows + image * tokens + begin + rank - 1, row, chosen)


@triton.jit
def unit_kernel(values, rows, count, feature, tokens, channels, CHANNELS: tl.constexpr):
    """Store listed rows at unit length."""
    image = tl.program_id(1).to(tl.int64)
    slot = tl.program_id(0)
    if slot >= tl.load(count + image):
        return
    place = image * tokens + tl.load(rows + image * tokens + slot)
    square = 0.0
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        x = tl.load(values + place * channels + channel, channel < channels, 0.0)
        square += tl.sum(x * x, 0)
    scale = 1.0 / tl.maximum(tl.sqrt(square), 1e-12)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        x = tl.load(values + place * channels + channel, channel < channels, 0.0)
        tl.store(feature + place * channels + channel, x * scale, channel < channels)


def add_merged(values: Tensor, before: Tensor, root: Tensor, deterministic: bool) -> None:
    """Bring `values` (batch, tokens, channels) from the roots `before` to `root`, in place."""
    batch, tokens, channels = values.shape
    slices = triton.cdiv(channels, CHANNELS)
    if not deterministic:
        add_kernel[(triton.cdiv(tokens, BLOCK), slices, batch)](
            values, before, root, tokens, channels, BLOCK, CHANNELS, enable_fp_fusion=False
        )
        return
    ordered, order = torch.sort(root, dim=1, stable=True)
    limits = torch.arange(tokens + 1, dtype=root.dtype, device=root.device).expand(batch, -1)
    begin = torch.searchsorted(ordered, limits.contiguous())
    ordered_kernel[(tokens, slices, batch)](
        values, before, root, order, begin, tokens, channels, CHANNELS, enable_fp_fusion=False
    )


def collect(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Rows where `wanted` (batch, tokens) holds, (batch, tokens) int32, and how many (batch,)."""
    batch, tokens = wanted.shape
    rows = torch.empty(batch, tokens, dtype=torch.int32, device=wanted.device)
    count = torch.zeros(batch, dtype=torch.int32, device=wanted.device)
    wanted = wanted.to(torch.int32)
    collect_kernel[(triton.cdiv(tokens, 128), batch)](
        wanted, rows, count, tokens, 128, enable_fp_fusion=False
    )
    return rows, count


def unit_rows(values: Tensor, rows: Tensor, count: Tensor, feature: Tensor) -> None:
    """Write the listed rows of `values` to `feature` at unit length; both (batch, tokens, c)."""
    batch, tokens, channels = values.shape
    unit_kernel[(tokens, batch)](
        values, rows, count, feature, tokens, channels, 128, enable_fp_fusion=False
    )
