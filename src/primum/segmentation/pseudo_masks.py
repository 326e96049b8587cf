"""UniAP inside training: the teacher's features become masks, cut to what the student sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from primum.errors import UserError
from primum_kernels.agglomeration import PRESETS, agglomerate
from primum_kernels.regions import areas_of, pick, starts_of


class Targets(NamedTuple):
    """What the student is asked for in each view; instance rows come first.

    Attributes:
        masks: (views, rows, height, width) bool.
        valid: (views, rows) bool: a mask that is there, and enough of it visible.
        instances: How many rows are instances; the rest are semantic.
    """

    masks: Tensor
    valid: Tensor
    instances: int

    @property
    def kind(self) -> Tensor:
        """(rows,) 0 for instances, 1 for semantic masks."""
        rows = torch.arange(self.masks.shape[1], device=self.masks.device)
        return (rows >= self.instances).long()


class Proposals(NamedTuple):
    """Masks of whole images, as label maps that are expanded only where they are looked at.

    Attributes:
        maps: (batch, layers, tokens) int32 label maps, the instance levels, then the semantic ones.
        grid: Rows and columns of tokens.
        layer, label: (batch, rows) which map a mask lies in, and its value there.
        share: (batch, rows) of the image's area.
        feature: (batch, rows, channels), unit length.
        valid: (batch, rows) bool.
        instances: How many rows are instances; the rest are semantic.
        counts: (levels, batch) supernodes.
    """

    maps: Tensor
    grid: tuple[int, int]
    layer: Tensor
    label: Tensor
    share: Tensor
    feature: Tensor
    valid: Tensor
    instances: int
    counts: Tensor

    def cropped(
        self, boxes: Tensor, flips: Tensor, side: int, in_view: float = 0.01, of_mask: float = 0.2
    ) -> Targets:
        """Cut every mask to every local view of its image.

        Args:
            boxes: (batch, crops, 4) left, top, right, bottom within 0..1.
            flips: (batch, crops) bool.
            side: Rows and columns of the masks wanted.
            in_view: Share of the view that a mask must cover to count.
            of_mask: Share of a mask that must lie in the view.

        Returns:
            Targets of batch * crops views, an image's crops in a row.
        """
        batch, crops = flips.shape
        token = points(boxes, flips, side, self.grid)
        layers = self.maps.shape[1]
        seen = self.maps.gather(2, token.flatten(1)[:, None].expand(-1, layers, -1))
        row = self.layer[..., None].expand(-1, -1, seen.shape[2])
        masks = seen.gather(1, row) == self.label[..., None]
        masks = masks.view(batch, -1, crops, side, side).transpose(1, 2)
        valid = self.valid[:, None] & visible(masks, boxes, self.share, in_view, of_mask)
        return Targets(masks.flatten(0, 1), valid.flatten(0, 1), self.instances)


def points(boxes: Tensor, flips: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """Which cell of a (rows, columns) grid each pixel of each view lies in.

    Args:
        boxes: (batch, crops, 4) left, top, right, bottom within 0..1.
        flips: (batch, crops) bool, the view is mirrored.
        side: Rows and columns of a view.

    Returns:
        (batch, crops, side * side), cells in raster order.
    """
    rows, columns = grid
    at = (torch.arange(side, device=boxes.device) + 0.5) / side
    across = torch.where(flips[..., None], 1 - at, at)
    left, top, right, bottom = boxes[..., None].unbind(-2)
    x = ((left + (right - left) * across) * columns).long().clamp(0, columns - 1)
    y = ((top + (bottom - top) * at) * rows).long().clamp(0, rows - 1)
    return (y[..., :, None] * columns + x[..., None, :]).flatten(2)


def visible(masks: Tensor, boxes: Tensor, share: Tensor, in_view: float, of_mask: float) -> Tensor:
    """Which masks matter in which view, (batch, crops, rows).

    Args:
        masks: (batch, crops, rows, height, width) bool.
        boxes: (batch, crops, 4).
        share: (batch, rows) of the whole image.
        in_view, of_mask: See `Proposals.cropped`.
    """
    covered = masks.float().mean((-1, -2))
    window = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))[..., None]
    own = covered * window / share[:, None].clamp(min=1e-6)
    return (covered >= in_view) & (own >= of_mask)


@dataclass(frozen=True)
class UniapProposals:
    """Runs UniAP on a batch of feature maps and picks the masks that are worth learning.

    Attributes:
        options: Arguments of `primum_kernels.agglomeration.agglomerate`, laid over `preset`.
        preset: `paper`, `author_code` or `recommended`.
        instances, semantic: Masks of each kind an image, the most persistent, then the largest.
        largest: Share of the image above which a mask says nothing.
        overlap: A mask that fills this much of its parent gives way to it.
        centre: Subtract the image's mean feature first. A ViT without pretraining has one large
            common component, without which every pair looks alike.
    """

    preset: str = "recommended"
    options: Mapping[str, Any] = field(default_factory=dict)
    instances: int = 150
    semantic: int = 50
    largest: float = 0.95
    overlap: float = 0.9
    centre: bool = False

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise UserError(
                f"There is no UniAP preset `{self.preset}`", remedy=f"one of {', '.join(PRESETS)}"
            )

    def features(self, tokens: Tensor) -> Tensor:
        """What UniAP is given for (batch, rows, columns, channels) tokens."""
        tokens = tokens.float()  # also under autocast: thresholds are fine cuts
        return tokens - tokens.mean((1, 2), keepdim=True) if self.centre else tokens

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Proposals:
        """Propose masks for (batch, rows, columns, channels) features."""
        features = self.features(tokens)
        options = {**PRESETS[self.preset], **self.options, "semantic": self.semantic > 0}
        found = agglomerate(features, **options)
        _, height, width, channels = features.shape
        total = height * width
        regions = found.regions
        inside = regions.area.gather(1, regions.parent.clamp(min=0))
        doubled = (regions.parent >= 0) & (regions.area > self.overlap * inside)
        wanted = (regions.level >= 0) & ~doubled & (regions.area <= self.largest * total)
        rank = torch.where(wanted, regions.persistence * (total + 1) + regions.area, -1)
        order, valid = best(rank, self.instances)
        labels = found.labels.flatten(2)
        layer, label = regions.level.gather(1, order), regions.label.gather(1, order)
        area = regions.area.gather(1, order)
        feature = regions.feature.gather(1, order[..., None].expand(-1, -1, channels)).float()
        if found.semantic is not None:
            levels, groups = len(labels), found.semantic.flatten(2)
            extra = semantic_rows(
                groups, self.semantic, self.largest, int(options.get("min_area", 4))
            )
            unit = functional.normalize(features.flatten(1, 2), dim=-1)
            member = (
                groups.transpose(0, 1).gather(1, extra.layer[..., None].expand(-1, -1, total))
                == extra.label[..., None]
            )  # (batch, rows, tokens)
            pooled = functional.normalize(member.float() @ unit, dim=-1)
            labels = torch.cat([labels, groups])
            layer = torch.cat([layer, extra.layer + levels], 1)
            label = torch.cat([label, extra.label], 1)
            area = torch.cat([area, extra.area], 1)
            valid = torch.cat([valid, extra.valid], 1)
            feature = torch.cat([feature, pooled], 1)
        return Proposals(
            labels.transpose(0, 1).int(), (height, width), layer.clamp(min=0),
            label.clamp(min=0).int(), area / total, feature, valid, order.shape[1], found.counts,
        )  # fmt: skip


class Rows(NamedTuple):
    """Rows of semantic masks, each (batch, rows)."""

    layer: Tensor
    label: Tensor
    area: Tensor
    valid: Tensor


def semantic_rows(groups: Tensor, limit: int, largest: float, smallest: int) -> Rows:
    """The largest distinct masks of (levels, batch, tokens) semantic labels."""
    levels, batch, total = groups.shape
    areas, starts = areas_of(groups), starts_of(groups)
    before = torch.cat([torch.zeros_like(areas[:1]), areas[:-1]])
    first, _ = pick(areas, before, starts, smallest, limit)  # (levels, batch, slots)
    listed, first = first < total, first.clamp(max=total - 1)
    area = areas.gather(-1, first).transpose(0, 1).flatten(1)
    label = groups.gather(-1, first).transpose(0, 1).flatten(1)
    listed = listed.transpose(0, 1).flatten(1) & (area <= largest * total)
    layer = torch.arange(levels, device=groups.device).repeat_interleave(first.shape[-1])
    rank = torch.where(listed, area, -1)
    order, valid = best(rank, limit)
    layer = layer.expand(batch, -1).gather(1, order)
    return Rows(layer, label.gather(1, order), area.gather(1, order), valid)


def best(rank: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Columns of the `limit` highest values of each row, ties to the left.

    Returns:
        Columns (batch, limit), and whether there is a value of at least zero there; some column
        stands where there is none.
    """
    padded = functional.pad(rank, (0, max(0, limit - rank.shape[1])), value=-1)
    found = torch.sort(padded, dim=1, descending=True, stable=True)
    columns = found.indices[:, :limit].clamp(max=rank.shape[1] - 1)
    return columns, found.values[:, :limit] >= 0
