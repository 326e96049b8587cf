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
    span: Tensor,
    width: int,
    level: Tensor,
    first: Tensor,
    feature: Tensor,
    cohesion: Tensor,
    cosines: Tensor,
    pairs: Tensor,
) -> Regions:
    """Fill the table for the chosen regions.

    Args:
        labels: (levels, batch, tokens) compact labels.
        span: (levels,) thresholds that each level stands for, as some merge nothing.
        width: Tokens in a row of the grid.
        level: (batch, rows) of each chosen region, in order; -1 where there is none.
        first: (batch, rows) its first token, from `pick`; anything where there is none.
        feature: (batch, rows, channels).
        cohesion: (batch, rows) norm of the mean unit token.
        cosines: (batch, edges) cosine of neighbouring tokens.
        pairs: (2, edges) the tokens of each grid edge.
    """
    levels, batch, tokens = labels.shape
    rows = level.shape[1]
    listed = level >= 0
    at_level, first = level.clamp(min=0), first.clamp(max=tokens - 1)
    shape = (levels, batch, rows)
    areas = areas_of(labels)
    position = torch.arange(tokens, device=labels.device)

    def later(values: Tensor) -> Tensor:
        """Values (levels, batch, tokens) of every level around each row's first token."""
        return values.gather(-1, first.expand(shape))

    def own(values: Tensor) -> Tensor:
        """The same at each row's own level, (batch, rows)."""
        return values.gather(0, at_level[None])[0]

    around = later(areas)
    area = own(around)
    every_label = later(labels)

    def of_region(values: Tensor) -> Tensor:
        """Values (levels, batch, labels) of each row's region."""
        return own(values.gather(-1, every_label))

    def furthest(value: Tensor) -> Tensor:
        out = torch.full_like(labels, -width)
        return of_region(out.scatter_reduce_(-1, labels, value.expand_as(labels), "amax"))

    column, line = position % width, position // width
    edges = [-furthest(-column), first // width, furthest(column) + 1, furthest(line) + 1]
    box = torch.stack(edges, -1)

    # a count and a sum in one word: cosines in whole units of 2^-20, so that the order of the
    # additions does not show
    units = (cosines * 2**20).round().long() + 2**40
    one, other = (labels.gather(-1, ends.expand(levels, batch, -1)) for ends in pairs)
    word = torch.where(one != other, units, 0)
    words = torch.zeros_like(labels).scatter_add_(-1, one, word).scatter_add_(-1, other, word)
    words = of_region(words)
    count = (words + 2**39) >> 40
    border = (words - (count << 40)) / (count.clamp(min=1) * 2**20)
    border = torch.where(count > 0, border, 1.0)

    # the same mask at a later level has the same area around the same token
    after = torch.arange(levels, device=labels.device)[:, None, None] > at_level
    longer = (after & (around == area)) * span[:, None, None]
    persistence = span[at_level] + longer.sum(0)
    number = torch.arange(rows, device=labels.device)
    row_of = torch.full((batch, levels * (tokens + 1)), -1, device=labels.device)
    slot = at_level * (tokens + 1) + torch.where(listed, own(every_label), tokens)
    row_of.scatter_(1, slot, number.expand(batch, rows))
    row_of = row_of.view(batch, levels, tokens + 1).transpose(0, 1)
    container = row_of[..., :tokens].gather(-1, every_label)
    container = torch.where(after & (container >= 0), container, rows).amin(0)
    parent = torch.where(container < rows, container, -1)
    score = persistence / span.sum() * (1 + cohesion - border).clamp(0, 2) / 2

    def shown(value: Tensor, empty: float) -> Tensor:
        hidden = ~listed.view(batch, rows, *[1] * (value.dim() - 2))
        return value.masked_fill(hidden, empty)

    at_threshold = (span.cumsum(0) - span)[at_level]
    return Regions(
        shown(at_threshold, -1), shown(own(every_label), -1), shown(area, 0), shown(box, 0),
        shown(parent, -1), shown(persistence, 0), shown(feature, 0), shown(score, 0),
    )  # fmt: skip
