"""UniAP: agglomerate a grid of features into nested regions, a level a threshold.

Neighbouring supernodes merge when they look alike (the cosine of their features) and are seen alike
(how similarly all tokens of the image relate to them); every connected component of such pairs is
contracted at once. After "S2-UniSeg" (AAAI-26), sections on Identify and Merge.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from primum_kernels.regions import Regions, describe, pick, starts_of

STABLE = "until-stable"
TIE_GRID = 2.0**16  # reciprocal linkage compares similarities on this grid, so equals stay equal

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # As printed. The sum/mean question of the vote is open in the paper; see `vote_norm`.
        "paper": dict(similarity="paper", rounds=1, pooling="vote", semantic=True),
        # The authors' released file: cosine alone, `>`, each threshold until nothing moves.
        "author_code": dict(similarity="feature", rounds=STABLE, pooling="sum", strict=True),
        # Chosen on BSDS500's training pictures with EfficientNet-Lite0's stages 2 and 3 (40 x 60
        # tokens): levels at which the median picture has about 100, 50, 25, 12 and 6 regions.
        "recommended": dict(
            similarity="feature",
            rounds=STABLE,
            pooling="sum",
            linkage="reciprocal",
            semantic=True,
            balance=0.25,
            thresholds=(0.87, 0.84, 0.8, 0.75, 0.69),
            max_rounds=64,
        ),
    }
)


class Overflow(NamedTuple):
    """What did not fit, an image: all zero means that nothing was left out. Each (batch,).

    Attributes:
        instances: Regions left out of the table (`max_instances` a level).
        semantic: Supernodes that took no part in semantic pooling (`max_semantic` a level).
        rounds: Levels that were cut off by `max_rounds` before they were stable.
    """

    instances: Tensor
    semantic: Tensor
    rounds: Tensor


@dataclass(frozen=True)
class Agglomeration:
    """What `agglomerate` returns.

    Attributes:
        labels: (levels, batch, height, width) int64. Every level is a full partition, labelled
            0..count-1 in raster order of each region's first token, and refines the next one.
        counts: (levels, batch) supernodes.
        semantic: (levels, batch, height, width) int64, or None when it was not asked for: the
            supernodes of that level grouped wherever they lie; labelled like `labels`.
        regions: The distinct regions of at least `min_area` tokens.
        overflow: What the caps cut off.
    """

    labels: Tensor
    counts: Tensor
    semantic: Tensor | None
    regions: Regions
    overflow: Overflow


@dataclass(frozen=True)
class Options:
    """The arguments of `agglomerate`, checked."""

    thresholds: tuple[float, ...]
    similarity: str
    rounds: int | str
    pooling: str
    linkage: str
    voters: int
    vote_norm: str
    vote_scope: str
    semantic: bool
    max_semantic: int
    max_instances: int
    min_area: int
    strict: bool
    weights: tuple[float, float]
    sigma: float
    balance: float
    max_rounds: int
    deterministic: bool

    def __post_init__(self) -> None:
        choices = {
            "similarity": ("paper", "feature"),
            "pooling": ("vote", "mean", "sum"),
            "linkage": ("components", "reciprocal"),
            "vote_norm": ("mean", "sum"),
            "vote_scope": ("all", "region"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}"
                )
        if not self.thresholds or any(not -1 <= tau <= 1 for tau in self.thresholds):
            raise ValueError(f"thresholds must be cosines within -1..1, got {self.thresholds}")
        if list(self.thresholds) != sorted(self.thresholds, reverse=True):
            raise ValueError(f"thresholds must not rise, got {self.thresholds}")
        if self.rounds != STABLE and (not isinstance(self.rounds, int) or self.rounds < 1):
            raise ValueError(f"rounds is {self.rounds!r}; it must be {STABLE!r} or at least 1")
        for name in ("voters", "max_semantic", "max_instances", "min_area", "max_rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.sigma > 0 or not min(self.weights) >= 0 or not self.weights[0] > 0:
            raise ValueError("sigma and the feature weight must be positive")
        if self.balance < 0 or (self.balance and self.similarity != "feature"):
            raise ValueError(
                f"balance is {self.balance}; it must be 0, or above it with similarity='feature'"
            )


def grid_edges(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Tokens of each 4-neighbour edge, (2, edges): to the right first, then down."""
    token = torch.arange(height * width, device=device).view(height, width)
    right = torch.stack([token[:, :-1].flatten(), token[:, 1:].flatten()])
    down = torch.stack([token[:-1].flatten(), token[1:].flatten()])
    return torch.cat([right, down], 1)


@lru_cache(maxsize=64)
def host_edges(height: int, width: int) -> Tensor:
    """`grid_edges` on the CPU, made once a grid; not to be written on."""
    return grid_edges(height, width)


def voting_tokens(height: int, width: int, stride: int) -> Tensor:
    """Tokens that vote on spatial similarity: every `stride`-th in both directions."""
    token = torch.arange(height * width).view(height, width)
    return token[::stride, ::stride].flatten()


def tie_hash(low: Tensor, high: Tensor) -> Tensor:
    """Sixteen well-mixed bits of a pair of first tokens (int64), the same on every device."""
    mixed = (low * 40503 + high * 9973 + 12345) & 0xFFFFFF
    mixed = ((mixed ^ (mixed >> 9)) * 23917) & 0xFFFFFF
    return ((mixed ^ (mixed >> 11)) * 30011 >> 5) & 0xFFFF


def size_weight(one: Tensor, other: Tensor, tokens: int, balance: float) -> Tensor:
    """What the distance of two supernodes counts: 1 for halves of the image, less for small ones.

    Args:
        one, other: Areas, which broadcast.
        tokens: Of the whole image.
        balance: Power of the harmonic mean of both areas, as a share of half the image.
    """
    return (4.0 * one * other / ((one + other) * tokens)) ** balance


def unit(rows: Tensor) -> Tensor:
    """Rows of length one; a zero row stays zero."""
    return rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def refuse_what_is_not_finite(features: Tensor) -> None:
    """Raise a ValueError that names the first token with NaN or infinity, if there is one."""
    finite = features.isfinite().all(-1)
    if not finite.all():
        image, row, column = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"features hold {int((~finite).sum())} tokens with NaN or infinity, the first in "
            f"image {image} at row {row}, column {column}"
        )


def reference(features: Tensor, options: Options) -> Agglomeration:
    """Define the operation: explicit affinity, dense masks, float64. Small grids only."""
    refuse_what_is_not_finite(features)
    height, width = features.shape[1:3]
    images = [_reference_image(image.double(), options) for image in features.cpu()]
    return assemble(images, height, width, features.device)


class Image(NamedTuple):
    """One image's result before the table is made; lists hold one entry a level."""

    labels: Tensor  # (levels, tokens)
    semantic: Tensor | None  # (levels, tokens)
    chosen: list[Tensor]  # (rows,) first tokens of the regions to list, in raster order
    feature: list[Tensor]  # (rows, channels)
    cohesion: list[Tensor]  # (rows,)
    cosines: Tensor  # (edges,)
    left_out: int  # regions that found no place in the table
    missed: int  # supernodes left out of semantic pooling


def _reference_image(image: Tensor, options: Options) -> Image:
    height, width, _ = image.shape
    token = unit(image.flatten(0, 1))  # (N, C)
    affinity = token @ token.T  # A
    voters = voting_tokens(height, width, options.voters)
    masks = torch.eye(len(token), dtype=token.dtype)  # M, (s, N)
    feature = token  # V, (s, C)
    adjacency = torch.zeros(len(token), len(token), dtype=torch.bool)
    low, high = grid_edges(height, width)
    adjacency[low, high] = adjacency[high, low] = True

    def similarity(masks: Tensor, feature: Tensor) -> Tensor:
        alike = feature @ feature.T
        if options.similarity == "feature":
            area = masks.sum(1)
            weight = size_weight(area[:, None], area, len(token), options.balance)
            return 1 - (1 - alike) * weight
        seen = (masks @ affinity / masks.sum(1, keepdim=True))[:, voters]  # a_i
        gap = torch.stack([(seen - one).abs().mean(1) for one in seen])
        return options.weights[0] * alike + options.weights[1] * (1 - gap)

    def passing(similar: Tensor, threshold: float) -> Tensor:
        return similar > threshold if options.strict else similar >= threshold

    def vote(masks: Tensor) -> Tensor:
        logits = masks @ affinity
        if options.vote_norm == "mean":
            logits = logits / masks.sum(1, keepdim=True)
        if options.vote_scope == "region":
            logits = logits.masked_fill(masks == 0, -math.inf)
        return unit((logits / options.sigma).softmax(1) @ token)

    def compact(labels: Tensor) -> Tensor:
        return labels.unique(return_inverse=True)[1]

    rounds = options.rounds if isinstance(options.rounds, int) else len(token)
    labels, semantic, listed, features, cohesion = [], [], [], [], []
    left_out = missed = 0
    before = torch.zeros(len(token), dtype=torch.int64)
    for threshold in options.thresholds:
        for _ in range(rounds):
            similar = similarity(masks, feature)
            merge = adjacency & passing(similar, threshold)
            if options.rounds == STABLE and not merge.any():
                break
            if options.linkage == "reciprocal":
                merge = _reciprocal(merge, similar, masks)
            group = compact(_components(merge))
            omega = torch.nn.functional.one_hot(group).to(token.dtype)  # (s, s')
            if options.pooling == "mean":
                feature = unit(omega.T @ feature)
            masks = omega.T @ masks
            adjacency = (omega.T @ adjacency.to(token.dtype) @ omega) > 0
            adjacency.fill_diagonal_(False)
            if options.pooling == "sum":
                feature = unit(masks @ token)
            elif options.pooling == "vote":
                feature = vote(masks)
        area = masks.sum(1)
        labels.append(masks.argmax(0))
        areas = area.long()[labels[-1]]
        chosen, more = pick(
            areas, before, starts_of(labels[-1]), options.min_area, options.max_instances
        )
        listed.append(chosen[chosen < len(token)])
        rows = labels[-1][listed[-1]]
        before, left_out = areas, left_out + int(more)
        features.append(feature[rows])
        cohesion.append((masks[rows] @ token / area[rows, None]).norm(dim=1))
        if options.semantic:
            order = torch.sort(area, descending=True, stable=True).indices
            chosen = order[: options.max_semantic]
            merge = torch.zeros(len(masks), len(masks), dtype=torch.bool)
            alike = passing(similarity(masks[chosen], feature[chosen]), threshold)
            merge[chosen[:, None], chosen] = alike
            group = compact(_components(merge))
            semantic.append(group[labels[-1]])
            missed += len(order) - len(chosen)
    return Image(
        torch.stack(labels), torch.stack(semantic) if semantic else None,
        listed, features, cohesion, affinity[low, high], left_out, missed,
    )  # fmt: skip


def _components(merge: Tensor) -> Tensor:
    """Smallest node each node is connected to, by a dense symmetric relation (s, s)."""
    nodes = len(merge)
    label = torch.arange(nodes)
    reach = merge | torch.eye(nodes, dtype=torch.bool)
    while True:
        lower = torch.where(reach, label[None], nodes).min(1).values
        if torch.equal(lower, label):
            return label
        label = lower


def _reciprocal(merge: Tensor, similar: Tensor, masks: Tensor) -> Tensor:
    """Pairs that are the best passing pair of both their ends; ties go by a hash of the pair."""
    first = masks.argmax(1)
    low, high = torch.minimum(first[:, None], first), torch.maximum(first[:, None], first)
    key = (similar * TIE_GRID).round().long() * 2**16 + tie_hash(low, high)
    key = torch.where(merge, key, torch.iinfo(torch.int64).min)
    best = key.max(1).values
    return merge & (key == best[:, None]) & (key == best[None])


def assemble(
    images: Sequence[Image], height: int, width: int, device: torch.device
) -> Agglomeration:
    """Make a batch's result from its images; the table is as long as the fullest image's."""
    labels = torch.stack([one.labels for one in images], 1)  # (levels, batch, tokens)
    levels, batch, _ = labels.shape
    counts = labels.amax(-1) + 1
    # a level with as many supernodes as the one before is the same one, and described with it
    new = torch.cat([counts[:1] > 0, counts[1:] != counts[:-1]]).any(1)
    rows = max(1, max(sum(map(len, one.chosen)) for one in images))
    sample = images[0].feature[0]
    level = torch.full((batch, rows), -1)
    first = torch.zeros_like(level)
    feature = sample.new_zeros(batch, rows, sample.shape[-1])
    cohesion = sample.new_zeros(batch, rows)
    for index, one in enumerate(images):
        sizes = torch.tensor([len(chosen) for chosen in one.chosen])
        used = slice(int(sizes.sum()))
        level[index, used] = (new.cumsum(0) - 1).repeat_interleave(sizes)
        first[index, used] = torch.cat(one.chosen)
        torch.cat(one.feature, out=feature[index, used])
        torch.cat(one.cohesion, out=cohesion[index, used])
    cosines = torch.stack([one.cosines for one in images])
    number = new.nonzero().flatten()
    span = torch.diff(number, append=torch.tensor([levels]))
    table = describe(
        labels[number], span, width, level, first, feature, cohesion, cosines,
        host_edges(height, width),
    )  # fmt: skip
    semantic = [one.semantic for one in images if one.semantic is not None]
    shape = (levels, batch, height, width)
    left_out, missed = torch.tensor([(one.left_out, one.missed) for one in images]).T
    return Agglomeration(
        labels.view(shape).to(device),
        counts.to(device),
        torch.stack(semantic, 1).view(shape).to(device) if semantic else None,
        Regions(**{name: value.to(device) for name, value in vars(table).items()}),
        Overflow(left_out.to(device), missed.to(device), torch.zeros_like(missed).to(device)),
    )


def agglomerate(
    features: Tensor,
    *,
    thresholds: Sequence[float] = (0.8, 0.7, 0.6, 0.5, 0.4),
    similarity: Literal["paper", "feature"] = "paper",
    rounds: int | Literal["until-stable"] = 1,
    pooling: Literal["vote", "mean", "sum"] = "vote",
    linkage: Literal["components", "reciprocal"] = "components",
    voters: int = 1,
    vote_norm: Literal["mean", "sum"] = "mean",
    vote_scope: Literal["all", "region"] = "all",
    semantic: bool = False,
    max_semantic: int = 256,
    max_instances: int = 256,
    min_area: int = 4,
    strict: bool = False,
    weights: tuple[float, float] = (0.6, 0.4),
    sigma: float = 0.07,
    balance: float = 0.0,
    max_rounds: int = 32,
    deterministic: bool = False,
    backend: Literal["auto", "triton", "torch", "reference"] = "auto",
) -> Agglomeration:
    """Pool a grid of features into nested regions.

    Args:
        features: (batch, height, width, channels), floating; made unit length here. Use the
            backbone's own token grid: a bilinearly enlarged one merges into a single region.
        thresholds: Similarity a pair needs, a level each, not rising.
        similarity: `paper`: weighted cosine and spatial similarity; `feature`: the cosine alone.
        rounds: Passes of identify and merge a threshold, or until no pair passes.
        pooling: A merged supernode's feature. `vote`: softmax attention of its mean over tokens;
            `sum`: the sum of its tokens; `mean`: the mean of the merged supernodes, whatever
            their sizes.
        linkage: `components` contracts every connected component of passing pairs; `reciprocal`
            only pairs that are each other's best, which resists chains along smooth gradients.
        voters: Spatial similarity asks every n-th token in both directions (1: all, exact).
        vote_norm: Logits of the vote from a region's `mean` affinity or its `sum`, which sharpens
            as regions grow; the paper prints it ambiguously.
        vote_scope: `all` tokens vote, or those of the `region` alone.
        semantic: Also group supernodes that do not touch, the largest `max_semantic` a level.
        max_instances: Rows of the table a level and image.
        min_area: Tokens a region needs to be listed in the table; label maps stay full partitions.
        strict: A pair passes when its similarity exceeds the threshold; otherwise reaching it
            is enough.
        weights: Of feature and spatial similarity.
        sigma: Temperature of the vote.
        balance: Above 0, distances (one less the cosine) of small supernodes count less, so that
            specks join before large regions do: times the harmonic mean of both areas, as a share
            of half the image, to this power. With `similarity="feature"`.
        max_rounds: Bound of `until-stable` on a GPU, where the host must not wait to see.
        deterministic: Sum in a fixed order on a GPU, bit for bit the same every time.
        backend: `auto` is Triton for CUDA tensors and `torch` elsewhere; `reference` is the
            definition, in float64 with the full affinity.

    Raises:
        ValueError: An option out of range, a wrong shape, or features that are not finite. On a
            GPU the last is raised by a device-side assertion, at the next synchronisation.
        TypeError: Features that are not floating point.

    >>> halves = torch.eye(2)[torch.tensor([0, 0, 1])].expand(1, 2, 3, 2)
    >>> agglomerate(halves, thresholds=[0.9], similarity="feature", pooling="sum").labels[0, 0]
    tensor([[0, 0, 1],
            [0, 0, 1]])
    """
    options = Options(
        tuple(float(tau) for tau in thresholds), similarity, rounds, pooling, linkage, voters,
        vote_norm, vote_scope, semantic, max_semantic, max_instances, min_area, strict,
        (float(weights[0]), float(weights[1])), sigma, balance, max_rounds, deterministic,
    )  # fmt: skip
    if backend not in ("auto", "triton", "torch", "reference"):
        raise ValueError(f"backend is {backend!r}; it must be auto, triton, torch or reference")
    if features.dim() != 4 or 0 in features.shape:
        raise ValueError(
            "features must be (batch, height, width, channels), none of them empty; "
            f"got {tuple(features.shape)}"
        )
    if not features.is_floating_point():
        raise TypeError(f"features must be floating point, got {features.dtype}")
    features = features.detach()
    if backend == "reference":
        return reference(features, options)
    if backend == "torch" or (backend == "auto" and not features.is_cuda):
        from primum_kernels.agglomeration_host import host

        return host(features, options)
    if not features.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError("the triton backend needs a CUDA tensor, or TRITON_INTERPRET=1 to try it")
    from primum_kernels.agglomeration_device import device

    return device(features, options)
