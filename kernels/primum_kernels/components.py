# mypy: disable-error-code="no-untyped-def"
"""Connected components of a batch of graphs with a flag an edge: union-find without locks.

A parent is never above its child, so hooking the higher of two roots under the lower with an
atomic minimum can only lower pointers; a hook that lost a race is repeated with what it found.
Roots are the least node of their component, whatever the order of the threads.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128
TIE_GRID = tl.constexpr(65536.0)


def reference(root: Tensor, pairs: Tensor, kept: Tensor) -> Tensor:
    """Define the operation: the least node connected to each (batch, nodes) by kept pairs."""
    least = root.clone()
    for image in range(len(root)):
        while True:
            before = least[image].clone()
            for one, other in pairs.T[kept[image]].tolist():
                low = torch.minimum(least[image, one], least[image, other])
                for end in (least[image, one], least[image, other]):
                    least[image][least[image] == end] = low
            if torch.equal(before, least[image]):
                break
    return least


@triton.jit
def find(parent, node, asked):
    """Follow pointers to the root, lane by lane; stale reads only lengthen the way."""
    above = tl.load(parent + node, asked, 0, cache_modifier=".cg")
    moving = asked & (above != node)
    while tl.max(moving.to(tl.int32), 0) > 0:
        node = tl.where(moving, above, node)
        above = tl.load(parent + node, moving, 0, cache_modifier=".cg")
        moving = moving & (above != node)
    return node


@triton.jit
def tie_key(similar, low, high):
    """Similarity on a grid, then sixteen mixed bits of the pair; see `agglomeration.tie_hash`."""
    low, high = low.to(tl.int64), high.to(tl.int64)
    mixed = (low * 40503 + high * 9973 + 12345) & 0xFFFFFF
    mixed = ((mixed ^ (mixed >> 9)) * 23917) & 0xFFFFFF
    mixed = ((mixed ^ (mixed >> 11)) * 30011 >> 5) & 0xFFFF
    return tl.floor(similar * TIE_GRID + 0.5).to(tl.int64) * 65536 + mixed


@triton.jit
def best_kernel(similar, root, pairs, best, tokens, edges, batch_pairs, BLOCK: tl.constexpr):
    """The highest key among a supernode's passing pairs."""
    image = tl.program_id(1).to(tl.int64)
    edge = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    score = tl.load(similar + image * edges + edge, edge < edges, -4.0)
    kept = score > -3.0
    pairs += image * batch_pairs
    one = tl.load(root + image * tokens + tl.load(pairs + edge, kept, 0), kept, 0)
    other = tl.load(root + image * tokens + tl.load(pairs + edges + edge, kept, 0), kept, 0)
    key = tie_key(score, tl.minimum(one, other), tl.maximum(one, other))
    tl.atomic_max(best + image * tokens + one, key, kept, sem="relaxed")
    tl.atomic_max(best + image * tokens + other, key, kept, sem="relaxed")


@triton.jit
def hook_kernel(
    similar, root, pairs, best, parent, tokens, edges, batch_pairs,
    RECIPROCAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Join the ends of every passing pair (similarity above -3) in `parent`."""
    image = tl.program_id(1).to(tl.int64)
    edge = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    score = tl.load(similar + image * edges + edge, edge < edges, -4.0)
    kept = score > -3.0
    pairs += image * batch_pairs
    one = tl.load(root + image * tokens + tl.load(pairs + edge, kept, 0), kept, 0)
    other = tl.load(root + image * tokens + tl.load(pairs + edges + edge, kept, 0), kept, 0)
    if RECIPROCAL:
        key = tie_key(score, tl.minimum(one, other), tl.maximum(one, other))
        kept = kept & (key == tl.load(best + image * tokens + one, kept, 0))
        kept = kept & (key == tl.load(best + image * tokens + other, kept, 0))
    parent += image * tokens
    while tl.max(kept.to(tl.int32), 0) > 0:
        one = find(parent, one, kept)
        other = find(parent, other, kept)
        low, high = tl.minimum(one, other), tl.maximum(one, other)
        kept = kept & (low != high)
        found = tl.atomic_min(parent + high, low, kept, sem="relaxed")
        kept = kept & (found != high)  # hooked, unless somebody had moved it meanwhile
        one = tl.where(kept, found, one)
        other = tl.where(kept, low, other)


@triton.jit
def flatten_kernel(parent, root, tokens, BLOCK: tl.constexpr):
    """Point every node at its root; runs after all hooks are in."""
    image = tl.program_id(1).to(tl.int64)
    node = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = node < tokens
    least = find(parent + image * tokens, tl.where(inside, node, 0), inside)
    tl.store(root + image * tokens + node, least, inside)


def unite(root: Tensor, pairs: Tensor, similar: Tensor, reciprocal: bool = False) -> Tensor:
    """Roots after joining the ends of passing pairs.

    Args:
        root: (batch, tokens) int32, the least token of each token's set.
        pairs: (2, edges) int32 tokens, or (batch, 2, edges).
        similar: (batch, edges) float32; below -3 where a pair does not pass.
        reciprocal: Only pairs that are the best of both their ends.
    """
    batch, tokens = root.shape
    edges = similar.shape[1]
    parent, joined, best = root.clone(), torch.empty_like(root), root
    if not edges:
        return parent
    grid = (triton.cdiv(edges, BLOCK), batch)
    each = 0 if pairs.dim() == 2 else 2 * edges
    if reciprocal:
        best = torch.full(root.shape, torch.iinfo(torch.int64).min, device=root.device)
        best_kernel[grid](
            similar, root, pairs, best, tokens, edges, each, BLOCK, enable_fp_fusion=False
        )
    hook_kernel[grid](
        similar, root, pairs, best, parent, tokens, edges, each, reciprocal, BLOCK,
        enable_fp_fusion=False,
    )  # fmt: skip
    flatten_kernel[(triton.cdiv(tokens, BLOCK), batch)](
        parent, joined, tokens, BLOCK, enable_fp_fusion=False
    )
    return joined
