"""UniAP on the CPU: the same result as the definition, with most of its arithmetic left out.

The affinity is never formed, because a region's mean relation to a token is the product of the
region's mean and that token. For `paper`, every pair of supernodes carries bounds of its
similarity, from three ever dearer sources, and is looked at more closely only while its merge is
undecided and would change something:

1. the cosine alone, as spatial similarity is at most one;
2. second moments: a mean of absolute values is at most the root of the mean square;
3. the exact mean over all voters.

A supernode lives in the row of its first token, so merging moves no rows. Graph bookkeeping is
NumPy, linear algebra torch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from primum_kernels.agglomeration import (
    STABLE,
    TIE_GRID,
    Agglomeration,
    Image,
    Options,
    assemble,
    host_edges,
    refuse_what_is_not_finite,
    size_weight,
    tie_hash,
    voting_tokens,
)

CHUNK = 256  # rows of a product held at once: 256 x 2304 floats stay in the cache
GUARD = 1e-5  # bounds decide only beyond this, far above the rounding of float32
COSINE, MOMENTS, EXACT = 0, 1, 2
LEAST = np.iinfo(np.int64).min

Array = np.ndarray[Any, Any]


@dataclass
class Pairs:
    """Supernode pairs and what is known of their similarity; `first` and `second` are rows.

    Without bounds (`depth` is None), `low` is the similarity itself.
    """

    first: Array
    second: Array
    low: Array  # bounds of the similarity
    high: Array
    alike: Array  # cosine
    depth: Array | None  # source of the bounds

    def __getitem__(self, which: Array) -> "Pairs":
        first, second, low = self.first[which], self.second[which], self.low[which]
        if self.depth is None:
            return Pairs(first, second, low, low, low, None)
        high, alike, depth = self.high[which], self.alike[which], self.depth[which]
        return Pairs(first, second, low, high, alike, depth)

    def __len__(self) -> int:
        return len(self.first)


def joined(one: Pairs, other: Pairs) -> Pairs:
    """Both sets of pairs."""
    if one.depth is None:
        both = ((one.first, other.first), (one.second, other.second), (one.low, other.low))
        first, second, low = (np.concatenate(values) for values in both)
        return Pairs(first, second, low, low, low, None)
    every = zip(vars(one).values(), vars(other).values(), strict=True)
    return Pairs(*(np.concatenate(values) for values in every))


def unite(root: Array, first: Array, second: Array) -> Array:
    """Join the trees of each pair: `root` (tokens,) maps a token to the least of its set."""
    while True:
        one, other = root[first], root[second]
        apart = one != other
        if not apart.any():
            return root
        first, second, one, other = first[apart], second[apart], one[apart], other[apart]
        root = root.copy()
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while True:  # pointers only ever fall, so doubling them ends at the least
            higher = root[root]
            if np.array_equal(higher, root):
                break
            root = higher


class Supernodes:
    """The supernodes of one image while they merge. Arrays over tokens hold a root's value."""

    def __init__(self, token: Tensor, height: int, width: int, options: Options) -> None:
        self.options = options
        self.token = token  # (tokens, channels), unit rows
        self.voter = token
        if options.voters > 1:
            self.voter = token[voting_tokens(height, width, options.voters)]
        self.place = np.arange(len(token))
        self.root = self.place
        self.area = np.ones(len(token), np.int64)
        # with sums of features and cosines of them nobody reads a merged token again
        own = options.pooling == "sum" and options.similarity == "feature"
        self.total = token if own else token.clone()
        self.scale = np.ones(len(token), np.float32)  # `sum`: features are scaled totals
        self.feature = token.clone() if options.pooling == "mean" else token
        self.plain = True  # every supernode is a token with the token's own feature
        self.stale = np.zeros(len(token), bool)  # features that wait for their vote
        self.moment, self.centre = Tensor(), Tensor()  # of the voters, made when first needed

        first, second = host_edges(height, width).numpy()
        grid = token.view(height, width, -1).numpy()
        right = np.einsum("hwc,hwc->hw", grid[:, :-1], grid[:, 1:])
        down = np.einsum("hwc,hwc->hw", grid[:-1], grid[1:])
        self.cosines = np.concatenate([right.ravel(), down.ravel()])
        self.pairs = self.bounded(first, second, self.cosines)
        self.unscored = first[:0], second[:0]

    def alive(self) -> Array:
        """Rows of the supernodes, in raster order."""
        return np.flatnonzero(self.root == self.place)

    # ------------------------------------------------------------------------- similarity

    def most(self, alike: Array, first: Array, second: Array) -> Array:
        """The most that similarity can be by the cosine: itself, unless it has a spatial part."""
        if self.options.similarity == "paper":
            return self.options.weights[0] * alike + self.options.weights[1] + GUARD
        if not self.options.balance:
            return alike
        one, other = self.area[first], self.area[second]
        weight = size_weight(at(one), at(other), len(self.root), self.options.balance).numpy()
        return (1 - (1 - alike) * weight).astype(np.float32)

    def bounded(self, first: Array, second: Array, alike: Array) -> Pairs:
        """Pairs with the bounds that their cosines give."""
        high = self.most(alike, first, second)
        if self.options.similarity == "feature":
            return Pairs(first, second, high, high, high, None)
        low = np.full_like(high, -np.inf)
        if self.plain:  # |f - g|^2 = 2 - 2 cos for tokens, and d' M d <= |M| |d|^2
            most = self.moments()[0].norm().item() * (2 - 2 * alike).clip(0)
            low = high - self.options.weights[1] * np.sqrt(most) - 2 * GUARD
        return Pairs(first, second, low, high, alike, np.full(len(first), COSINE))

    def score(self) -> None:
        """Score the pairs whose supernodes have changed."""
        first, second = self.unscored
        if not len(first):
            return
        self.freshen(np.concatenate([first, second]))
        alike = np.empty(len(first), np.float32)
        by_sum = self.options.pooling == "sum"
        source = self.total if by_sum else self.feature
        for begin in range(0, len(first), CHUNK):
            chunk = slice(begin, begin + CHUNK)
            one = source.index_select(0, at(first[chunk])).numpy()
            other = source.index_select(0, at(second[chunk])).numpy()
            np.einsum("nc,nc->n", one, other, out=alike[chunk])
        if by_sum:
            alike *= self.scale[first] * self.scale[second]
        self.pairs = joined(self.pairs, self.bounded(first, second, alike))
        self.unscored = first[:0], second[:0]

    def features(self, rows: Array) -> Tensor:
        """Unit features, (rows, channels)."""
        if self.options.pooling == "sum":
            return self.sums(rows).mul_(at(self.scale[rows])[:, None])
        return self.feature.index_select(0, at(rows))

    def sums(self, rows: Array) -> Tensor:
        """Sum of each supernode's tokens, (rows, channels)."""
        return self.total.index_select(0, at(rows))

    def means(self, rows: Array) -> Tensor:
        """Mean token of each supernode, (rows, channels)."""
        area = self.area[rows]
        sums = self.sums(rows)
        return sums.div_(at(area)[:, None]) if area.max(initial=1) > 1 else sums

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean over voters of f f^T and of f."""
        if not len(self.moment):
            self.moment = self.voter.T @ self.voter / len(self.voter)
            self.centre = self.voter.mean(0)
        return self.moment, self.centre

    def tighten(self, pairs: Pairs, which: Array) -> None:
        """Bring pairs of one depth to the next, in place."""
        assert pairs.depth is not None
        weight = self.options.weights[1]
        best = self.options.weights[0] * pairs.alike[which] + weight
        gap = self.means(pairs.first[which]) - self.means(pairs.second[which])
        if pairs.depth[which[0]] == COSINE:
            moment, centre = self.moments()
            square = torch.linalg.vecdot(gap @ moment, gap).clamp(min=0)
            least = torch.maximum((gap @ centre).abs(), square / gap.norm(dim=1).clamp(min=1e-9))
            pairs.low[which] = best - weight * square.sqrt().numpy() - GUARD
            pairs.high[which] = best - weight * least.numpy() + GUARD
        else:
            exact = (gap @ self.voter.T).abs_().mean(1).numpy()
            pairs.low[which] = pairs.high[which] = best - weight * exact
        pairs.depth[which] += 1

    # --------------------------------------------------------------------------- identify

    def reaches(self, value: Array, threshold: float) -> Array:
        """Whether similarities pass."""
        return value > threshold if self.options.strict else value >= threshold

    def linked(self, pairs: Pairs, threshold: float) -> Array:
        """Roots after joining every component of passing pairs; `self.root` if there is none."""
        sure = self.reaches(pairs.low, threshold)
        root = unite(self.root, pairs.first[sure], pairs.second[sure])
        if pairs.depth is None:
            return root
        for depth in (COSINE, MOMENTS):
            while True:
                open_ = (pairs.depth == depth) & self.reaches(pairs.high, threshold)
                which = np.flatnonzero(open_)
                which = which[root[pairs.first[which]] != root[pairs.second[which]]]
                if not len(which):
                    break
                # the likeliest first: what they join need not be asked
                middle = pairs.low[which].clip(-1) + pairs.high[which]
                which = which[np.argsort(-middle, kind="stable")[: 2 * CHUNK]]
                self.tighten(pairs, which)
                which = which[self.reaches(pairs.low[which], threshold)]
                root = unite(root, pairs.first[which], pairs.second[which])
        return root

    def reciprocal(self, pairs: Pairs, threshold: float) -> Array:
        """Roots after joining passing pairs that are the best of both their ends."""
        if pairs.depth is not None:
            pairs = pairs[self.contested(pairs, threshold)]
        pairs = pairs[self.reaches(pairs.low, threshold)]
        low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
        key = np.rint(pairs.low.astype(np.float64) * TIE_GRID).astype(np.int64) * 2**16
        key += tie_hash(at(low), at(high)).numpy()
        top = np.full(len(self.root), LEAST)
        np.maximum.at(top, pairs.first, key)
        np.maximum.at(top, pairs.second, key)
        kept = (key == top[pairs.first]) & (key == top[pairs.second])
        return unite(self.root, pairs.first[kept], pairs.second[kept])

    def contested(self, pairs: Pairs, threshold: float) -> Array:
        """Which pairs may be the best of both ends; all that matters of them is made exact."""
        assert pairs.depth is not None
        while True:
            best = np.full(len(self.root), -np.inf, pairs.low.dtype)
            np.maximum.at(best, pairs.first, pairs.low)
            np.maximum.at(best, pairs.second, pairs.low)
            able = self.reaches(pairs.high, threshold)
            leads = able & (pairs.high >= best[pairs.first] - 2 / TIE_GRID)
            trails = able & (pairs.high >= best[pairs.second] - 2 / TIE_GRID)
            contested = np.zeros(len(self.root), bool)
            contested[pairs.first[leads & trails]] = contested[pairs.second[leads & trails]] = True
            able = (leads & contested[pairs.first]) | (trails & contested[pairs.second])
            which = np.flatnonzero(able & (pairs.depth < EXACT))
            if not len(which):
                return able
            shallow = pairs.depth[which]
            self.tighten(pairs, which[shallow == shallow.min()][: 4 * CHUNK])

    # ------------------------------------------------------------------------------ merge

    def merge(self, root: Array) -> None:
        """Contract to these roots. Votes and pairs that this changes wait until asked for."""
        pooling = self.options.pooling
        alive, changed = self.root == self.place, np.zeros(len(root), bool)
        moved = root[alive & (root != self.place)]
        if len(moved):
            changed[moved] = True
            members = np.flatnonzero(alive & changed[root])
            members = members[grouped(root[members])]
            owner = root[members]
            start = np.flatnonzero(leads(owner))
            heads, runs = owner[start], np.diff(start, append=len(owner))
            sums = combined(self.total, members, runs)
            self.total.index_copy_(0, at(heads), sums)
            self.area[heads] = np.add.reduceat(self.area[members], start)
            if pooling == "sum":
                self.scale[heads] = 1 / torch.linalg.vector_norm(sums, dim=1).clamp_(min=1e-12)
            elif pooling == "mean":
                self.write(heads, combined(self.feature, members, runs))
        self.root = root
        if pooling == "vote":
            if self.plain:  # the first vote replaces every token's feature
                changed = root == self.place
                self.feature = torch.empty_like(self.token)
            self.stale |= changed
        self.plain = self.plain and pooling != "vote" and not len(moved)

        pairs = self.pairs
        first, second = root[pairs.first], root[pairs.second]
        apart = first != second
        fresh = apart & (changed[first] | changed[second])
        self.pairs = pairs[apart & ~fresh]
        first, second = first[fresh], second[fresh]
        code = np.sort(np.minimum(first, second) * len(root) + np.maximum(first, second))
        code = code[leads(code)]
        self.unscored = code // len(root), code % len(root)

    def freshen(self, rows: Array) -> None:
        """Let these rows vote if they wait for it."""
        if self.options.pooling != "vote":
            return
        wanted = np.zeros_like(self.stale)
        wanted[rows] = True
        rows = np.flatnonzero(wanted & self.stale)
        self.stale[rows] = False
        if not len(rows):
            return
        if self.options.vote_scope == "region":
            self.write(rows, self.vote_inside(rows))
            return
        for chunk in np.array_split(rows, -(-len(rows) // CHUNK)):
            logits = self.means(chunk).mul_(1 / self.options.sigma) @ self.token.T
            if self.options.vote_norm == "sum":
                logits *= at(self.area[chunk])[:, None]
            self.write(chunk, logits.softmax(1) @ self.token)

    def write(self, rows: Array, feature: Tensor) -> None:
        """Store features, made unit length."""
        self.feature.index_copy_(0, at(rows), functional.normalize(feature, dim=1, eps=1e-12))

    def vote_inside(self, rows: Array) -> Tensor:
        """Vote of each region's own tokens."""
        inside = np.zeros(len(self.root), bool)
        inside[rows] = True
        tokens = np.flatnonzero(inside[self.root])
        tokens = tokens[grouped(self.root[tokens])]
        owner = self.root[tokens]
        start = np.flatnonzero(leads(owner))
        size = np.diff(start, append=len(tokens))
        mean = self.means(rows).numpy().repeat(size, 0)
        logit = np.einsum("nc,nc->n", mean, self.token[at(tokens)].numpy()) / self.options.sigma
        if self.options.vote_norm == "sum":
            logit *= size.repeat(size)
        weight = np.exp(logit - np.maximum.reduceat(logit, start).repeat(size))
        return combined(self.token, tokens, size, weight)

    # ---------------------------------------------------------------------------- results

    def listed(self, before: Array) -> tuple[Array, int]:
        """Rows of the regions to list, and how many found no place; see `regions.pick`."""
        rows = self.alive()
        rows = rows[(self.area[rows] != before[rows]) & (self.area[rows] >= self.options.min_area)]
        order = np.argsort(-self.area[rows], kind="stable")[: self.options.max_instances]
        return np.sort(rows[order]), len(rows) - len(order)

    def semantic(self, threshold: float) -> tuple[Array, int]:
        """Roots after grouping the largest supernodes wherever they lie; how many were left out."""
        alive = self.alive()
        order = np.argsort(-self.area[alive], kind="stable")[: self.options.max_semantic]
        rows = np.sort(alive[order])
        self.freshen(rows)
        feature = self.features(rows)
        parts = []
        for begin in range(0, len(rows), CHUNK):
            alike = (feature[begin : begin + CHUNK] @ feature.T).numpy()
            high = self.most(alike, rows[begin : begin + CHUNK, None], rows[None])
            one, other = np.nonzero(np.triu(self.reaches(high, threshold), begin + 1))
            parts.append(self.bounded(rows[one + begin], rows[other], alike[one, other]))
        pairs = parts[0]
        for part in parts[1:]:
            pairs = joined(pairs, part)
        return self.linked(pairs, threshold), len(alive) - len(rows)


def at(rows: Array) -> Tensor:
    """The same memory as a tensor."""
    return torch.from_numpy(rows)


def leads(ordered: Array) -> Array:
    """Where a run of equal values begins."""
    begins = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    return begins


def combined(values: Tensor, rows: Array, runs: Array, weight: Array | None = None) -> Tensor:
    """Weighted sums of values[rows] over consecutive runs of these lengths, (runs, channels)."""
    begins = at(np.cumsum(runs) - runs)
    weights = None if weight is None else at(weight)
    return functional.embedding_bag(
        at(rows), values, begins, mode="sum", per_sample_weights=weights
    )


def grouped(owner: Array) -> Array:
    """Stable order that brings equal rows together; narrow whole numbers are sorted by radix."""
    narrow = owner.astype(np.uint16) if owner.max(initial=0) < 2**16 else owner
    return np.argsort(narrow, kind="stable")


def ranked(root: Array) -> Array:
    """Labels that count up in raster order, from roots."""
    return (np.cumsum(root == np.arange(len(root))) - 1)[root]


def pool(token: Tensor, height: int, width: int, options: Options) -> Image:
    """Agglomerate one image; token is (height * width, channels), unit rows, float32."""
    nodes = Supernodes(token, height, width, options)
    link = nodes.linked if options.linkage == "components" else nodes.reciprocal
    labels, semantic, chosen, feature, cohesion = [], [], [], [], []
    left_out = missed = 0
    before = np.zeros(len(token), np.int64)
    for threshold in options.thresholds:
        turn = 0
        while options.rounds == STABLE or turn < int(options.rounds):
            turn += 1
            nodes.score()
            root = link(nodes.pairs, threshold)
            if options.rounds == STABLE and root is nodes.root:
                break
            nodes.merge(root)
        labels.append(at(ranked(nodes.root)))
        rows, more = nodes.listed(before)
        before, left_out = nodes.area[nodes.root], left_out + more
        nodes.freshen(rows)
        chosen.append(at(rows))
        feature.append(nodes.features(rows))
        cohesion.append(torch.linalg.vector_norm(nodes.sums(rows), dim=1) / at(nodes.area[rows]))
        if options.semantic:
            root, more = nodes.semantic(threshold)
            semantic.append(at(ranked(root)))
            missed += more
    return Image(
        torch.stack(labels), torch.stack(semantic) if semantic else None,
        chosen, feature, cohesion, at(nodes.cosines), left_out, missed,
    )  # fmt: skip


def normalised(image: Tensor, batch: Tensor) -> Tensor:
    """Unit tokens (tokens, channels) in float32, checked on the way."""
    token = image.cpu().float().flatten(0, 1)
    length = torch.linalg.vector_norm(token, dim=1, keepdim=True)
    if not length.isfinite().all():
        refuse_what_is_not_finite(batch)
        token = token / token.abs().amax()  # merely too large to be squared
        length = torch.linalg.vector_norm(token, dim=1, keepdim=True)
    length.clamp_(min=1e-12)
    mine = token.data_ptr() != image.data_ptr()
    return token.div_(length) if mine else token / length


def host(features: Tensor, options: Options) -> Agglomeration:
    """Run on the CPU, image by image; the result returns to the features' device."""
    _, height, width, _ = features.shape
    images = []
    for image in features:
        images.append(pool(normalised(image, features), height, width, options))
    return assemble(images, height, width, features.device)
