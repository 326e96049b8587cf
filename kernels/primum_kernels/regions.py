"""The table of regions behind nested label maps: each distinct mask once, with what is known of it.

Shapes are fixed by the arguments, so the same code runs under a CUDA graph. A region is addressed
by its level and its first token in raster order.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """Distinct regions of a batch; rows run by level, then by label.

    A region that several levels share is listed once, at the first of them. Rows beyond an image's
    own are padding: their level is -1.

    Attributes:
        level: (batch, rows) index into `thresholds`.
        label: (batch, rows) the region's value in `labels[level]`.
        area: (batch, rows) tokens.
        box: (batch, rows, 4) left, top, right, bottom in tokens; right and bottom lie outside.
        parent: (batch, rows) row of the smallest listed region that contains it, or -1.
        persistence: (batch, rows) levels at which this very mask exists.
        feature: (batch, rows, channels) the supernode's unit feature.
        score: (batch, rows) within 0..1: share of levels survived, times half of one plus the
            cohesion (mean cosine of members and their mean) less the mean cosine of the token
            pairs across the border (1 for the whole image, which has none).
    """

    level: Tensor
    label: Tensor
    area: Tensor
    box: Tensor
    parent: Tensor
    persistence: Tensor
    feature: Tensor
    score: Tensor

    def of_image(self, index: int) -> "Regions":
        """One image's rows without padding and without the batch axis; parents keep pointing."""
        listed = self.level[index] >= 0
        row = torch.cumsum(listed, 0) - 1
        one = {field.name: getattr(self, field.name)[index][listed] for field in fields(self)}
        one["parent"] = torch.where(one["parent"] >= 0, row[one["parent"].clamp(min=0)], -1)
        return Regions(**one)

    def __len__(self) -> int:
        return self.level.shape[-1]


def areas_of(labels: Tensor) -> Tensor:
    """Area of the region each token lies in: (..., tokens) compact labels to (..., tokens)."""
    ones = torch.ones_like(labels)
    return torch.zeros_like(labels).scatter_add_(-1, labels, ones).gather(-1, labels)


def starts_of(labels: Tensor) -> Tensor:
    """Whether a token is its region's first: compact labels count up in raster order."""
    highest = labels.cummax(-1).values
    starts = torch.ones_like(labels, dtype=torch.bool)
    starts[..., 1:] = highest[..., 1:] > highest[..., :-1]
    return starts


def pick(
    areas: Tensor, before: Tensor, starts: Tensor, min_area: int, limit: int
) -> tuple[Tensor, Tensor]:
    """Choose the regions to list: new at this level, large enough, the largest `limit` of them.

    Args:
        areas: (..., tokens) area of each token's region.
        before: The same one level earlier; zero for the first level.
        starts: (..., tokens) from `starts_of`.

    Returns:
        First tokens in raster order (..., limit), `tokens` where there is none; and how many
        regions found no place (...).
    """
    tokens = areas.shape[-1]
    position = torch.arange(tokens, device=areas.device)
    wanted = starts & (areas != before) & (areas >= min_area)
    order = torch.where(wanted, areas * tokens + (tokens - 1 - position), -1)
    best, chosen = order.topk(min(limit, tokens), dim=-1, sorted=False)
    chosen = torch.where(best >= 0, chosen, tokens).sort(-1).values
    return chosen, wanted.sum(-1) - (chosen < tokens).sum(-1)


def describe(
    labels: Tensor,
    width: int,
    chosen: Tensor,
    feature: Tensor,
    cohesion: Tensor,
    cosines: Tensor,
    pairs: Tensor,
) -> Regions:
    """Fill the table for the chosen regions.

    Args:
        labels: (levels, batch, tokens) compact labels.
        width: Tokens in a row of the grid.
        chosen: (levels, batch, slots) from `pick`.
        feature: (levels, batch, slots, channels).
        cohesion: (levels, batch, slots) norm of the mean unit token.
        cosines: (batch, edges) cosine of neighbouring tokens.
        pairs: (2, edges) the tokens of each grid edge.
    """
    levels, batch, tokens = labels.shape
    slots = chosen.shape[-1]
    listed = chosen < tokens
    first = chosen.clamp(max=tokens - 1)
    label = labels.gather(-1, first)
    areas = areas_of(labels)
    area = areas.gather(-1, first)

    position = torch.arange(tokens, device=labels.device)

    def extreme(value: Tensor, how: str, start: int) -> Tensor:
        out = torch.full_like(labels, start)
        out.scatter_reduce_(-1, labels, value.expand_as(labels), how)
        return out.gather(-1, label)

    left = extreme(position % width, "amin", width)
    right = extreme(position % width, "amax", -1) + 1
    bottom = extreme(position // width, "amax", -1) + 1
    box = torch.stack([left, first // width, right, bottom], -1)

    # a count and a sum in one word: cosines in whole units of 2^-20, so that the order of the
    # additions does not show
    units = (cosines * 2**20).round().long() + 2**40
    ends = labels[..., pairs]  # (levels, batch, 2, edges)
    word = torch.where(ends[..., 0, :] != ends[..., 1, :], units, 0)
    word = word[..., None, :].expand(ends.shape).flatten(-2)
    word = torch.zeros_like(labels).scatter_add_(-1, ends.flatten(-2), word).gather(-1, label)
    count = (word + 2**39) >> 40
    border = (word - (count << 40)) / (count.clamp(min=1) * 2**20)
    border = torch.where(count > 0, border, 1.0)

    # the same mask at a later level has the same area around the same token
    def later(values: Tensor) -> Tensor:
        """Values (levels, batch, tokens) of every level at each region: (levels, *chosen.shape)."""
        at = first.expand(levels, *first.shape)
        return values[:, None].expand(-1, levels, -1, -1).gather(-1, at)

    level = torch.arange(levels, device=labels.device)
    after = (level[:, None] > level)[..., None, None]
    persistence = 1 + (after & (later(areas) == area)).sum(0)
    row_of = torch.full((levels, batch, tokens + 1), -1, device=labels.device)
    rows = torch.arange(levels * slots, device=labels.device).view(levels, 1, slots)
    row_of.scatter_(-1, torch.where(listed, label, tokens), rows.expand(chosen.shape))
    row_of[..., tokens] = -1
    container = later(row_of.gather(-1, labels))
    container = torch.where(after & (container >= 0), container, levels * slots).amin(0)
    parent = torch.where(container < levels * slots, container, -1)  # rows run by level
    score = persistence / levels * (1 + cohesion - border).clamp(0, 2) / 2

    def rows_of(value: Tensor, empty: float) -> Tensor:
        hidden = ~listed.view(*listed.shape, *[1] * (value.dim() - 3))
        return value.masked_fill(hidden, empty).transpose(0, 1).flatten(1, 2)

    at_level = level.view(levels, 1, 1).expand(chosen.shape)
    return Regions(
        rows_of(at_level, -1), rows_of(label, -1), rows_of(area, 0), rows_of(box, 0),
        rows_of(parent, -1), rows_of(persistence, 0), rows_of(feature, 0), rows_of(score, 0),
    )  # fmt: skip
