"""UniAP in Triton: fixed shapes and no word to the host, so a CUDA graph can hold it.

Every image keeps arrays over its tokens; a supernode lives in the row of its first token. How much
there is to do (pairs in doubt, rows to pool) is counted on the device, and programs beyond the
count leave at once.
"""

import torch
from torch import Tensor

from primum_kernels.agglomeration import (
    STABLE,
    Agglomeration,
    Options,
    Overflow,
    grid_edges,
    refuse_what_is_not_finite,
)
from primum_kernels.components import unite
from primum_kernels.regions import describe, pick
from primum_kernels.segments import add_merged, collect, unit_rows
from primum_kernels.semantic import semantic_roots
from primum_kernels.similarity import similarities
from primum_kernels.vote import vote


class Supernodes:
    """A batch of images while their supernodes merge."""

    def __init__(self, features: Tensor, options: Options) -> None:
        batch, height, width, _ = features.shape
        device = features.device
        self.options = options
        self.weights = options.weights if options.similarity == "paper" else None
        unit = torch.nn.functional.normalize(
            features.flatten(1, 2).float(), dim=2, eps=1e-12
        ).contiguous()
        # products run in the features' own type; the interpreter knows no half types' products
        half = features.is_cuda and features.dtype in (torch.float16, torch.bfloat16)
        self.token = unit.to(features.dtype) if half else unit
        self.voter = self.token
        if options.voters > 1:
            grid = self.token.view(batch, height, width, -1)
            self.voter = grid[:, :: options.voters, :: options.voters].flatten(1, 2).contiguous()
        self.feature, self.total = unit.clone(), unit.clone()
        self.place = torch.arange(height * width, dtype=torch.int32, device=device)
        self.root = self.place.expand(batch, -1).contiguous()
        self.area = torch.ones_like(self.root)
        self.pairs = grid_edges(height, width, device).to(torch.int32)
        self.cosines = (unit[:, self.pairs[0]] * unit[:, self.pairs[1]]).sum(2)
        self.pooled = torch.zeros(batch, dtype=torch.bool, device=device)  # the first vote is over

    def merge_once(self, threshold: float, active: Tensor) -> Tensor:
        """One pass of identify and merge on active images; those (batch,) that still move."""
        options = self.options
        similar, passed = similarities(
            self.feature, self.total, self.area, self.voter, self.root, self.pairs,
            active.to(torch.int32), threshold, self.weights, options.strict, options.balance,
        )  # fmt: skip
        if options.rounds == STABLE:
            active = active & (passed > 0)
        before, self.root = (
            self.root,
            unite(self.root, self.pairs, similar, options.linkage == "reciprocal"),
        )
        moved = (before == self.place) & (self.root != self.place)
        grown = torch.zeros_like(self.root)
        grown.scatter_add_(1, self.root.long(), moved.to(torch.int32))
        wanted = grown > 0
        add_merged(self.area[..., None], before, self.root, options.deterministic)
        if options.pooling == "mean":
            add_merged(self.feature, before, self.root, options.deterministic)
        add_merged(self.total, before, self.root, options.deterministic)
        if options.pooling == "vote":
            first = active & ~self.pooled  # the first vote replaces every token's feature
            wanted |= first[:, None] & (self.root == self.place)
            self.pooled = self.pooled | active
        rows, count = collect(wanted)
        if options.pooling == "vote":
            vote(
                self.total, self.area, self.token, self.root, rows, count, self.feature,
                options.sigma, options.vote_norm == "sum", options.vote_scope == "region",
            )  # fmt: skip
        else:
            source = self.feature if options.pooling == "mean" else self.total
            unit_rows(source, rows, count, self.feature)
        return active

    def areas(self) -> Tensor:
        """Area of each token's region, (batch, tokens) int64."""
        return self.area.gather(1, self.root.long()).long()

    def starts(self) -> Tensor:
        """Whether a token is its region's first."""
        return self.root == self.place

    def largest(self, areas: Tensor) -> tuple[Tensor, Tensor]:
        """The largest supernodes in raster order, at most `max_semantic`; and how many (batch,)."""
        tokens = areas.shape[1]
        most = min(self.options.max_semantic, tokens)
        starts = self.starts()
        order = torch.where(starts, areas * tokens + (tokens - 1 - self.place), -1)
        best, rows = order.topk(most, dim=1)
        rows = torch.where(best >= 0, rows, tokens).sort(1).values
        return rows.clamp(max=tokens - 1), (rows < tokens).sum(1).to(torch.int32)


def ranked(root: Tensor, place: Tensor) -> Tensor:
    """Labels that count up in raster order, (batch, tokens) int64."""
    return (torch.cumsum(root == place, 1) - 1).gather(1, root.long())


def device(features: Tensor, options: Options) -> Agglomeration:
    """Run in Triton, all images of the batch at once."""
    batch, height, width, channels = features.shape
    tokens, levels = height * width, len(options.thresholds)
    if features.is_cuda:
        torch._assert_async(features.isfinite().all(), "features hold NaN or infinity")
    else:
        refuse_what_is_not_finite(features)
    nodes = Supernodes(features, options)
    labels, semantic, chosen, feature, cohesion = [], [], [], [], []
    left_out = torch.zeros(batch, dtype=torch.int64, device=features.device)
    missed, unfinished = left_out.clone(), left_out.clone()
    before = torch.zeros(batch, tokens, dtype=torch.int64, device=features.device)
    everyone = torch.ones(batch, dtype=torch.bool, device=features.device)
    rounds = options.max_rounds if options.rounds == STABLE else int(options.rounds)
    for threshold in options.thresholds:
        active = everyone
        for _ in range(rounds):
            active = nodes.merge_once(threshold, active)
        if options.rounds == STABLE:
            unfinished += active
        labels.append(ranked(nodes.root, nodes.place))
        areas = nodes.areas()
        first, more = pick(areas, before, nodes.starts(), options.min_area, options.max_instances)
        before, left_out = areas, left_out + more
        at = first.clamp(max=tokens - 1)
        index = at[..., None].expand(-1, -1, channels)
        chosen.append(first)
        feature.append(nodes.feature.gather(1, index))
        cohesion.append(nodes.total.gather(1, index).norm(dim=2) / areas.gather(1, at))
        if options.semantic:
            rows, known = nodes.largest(areas)
            root = semantic_roots(
                nodes.feature, nodes.total, nodes.area, nodes.voter, nodes.root, rows, known,
                threshold, nodes.weights, options.strict, options.balance,
            )  # fmt: skip
            semantic.append(ranked(root, nodes.place))
            missed += nodes.starts().sum(1) - known
    stack = torch.stack(labels)
    first, each = torch.cat(chosen, 1), torch.ones(levels, dtype=torch.int64, device=before.device)
    level = torch.arange(levels, device=before.device).repeat_interleave(chosen[0].shape[1])
    table = describe(
        stack, each, width, torch.where(first < tokens, level, -1), first,
        torch.cat(feature, 1), torch.cat(cohesion, 1), nodes.cosines, nodes.pairs.long(),
    )  # fmt: skip
    shape = (levels, batch, height, width)
    return Agglomeration(
        stack.view(shape),
        stack.amax(-1) + 1,
        torch.stack(semantic).view(shape) if semantic else None,
        table,
        Overflow(left_out, missed, unfinished),
    )
