"""Where two ways of decoding wrote different tokens, and how much that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from primum.extras import require
from primum.parsing.decoding.prefill import prefill
from primum.parsing.decoding.target import Target
from primum.parsing.decoding.verify import verify


@dataclass(frozen=True)
class Divergence:
    """Where a way first wrote another token than `generate`.

    Attributes:
        place: Of the token, counted from 0.
        margin: How far apart the model's logits of the two are there; infinite where one output
            ends before the other.
        distance: Edits between the two outputs, as a share of the longer one.
    """

    page: str
    way: str
    place: int
    margin: float
    distance: float


def divergences(
    outputs: Mapping[str, Mapping[str, list[int]]],
    images: Mapping[str, Any],
    target: Target,
    most: int,
) -> list[Divergence]:
    """Where a way's output is not `generate`'s.

    Args:
        outputs: Tokens by way and page.
        images: By page.
        most: Tokens of a page at most.
    """
    distance = require("rapidfuzz.distance", "parsing").Levenshtein.normalized_distance
    found = []
    for way, by_page in outputs.items():
        for page, mine in by_page.items():
            theirs = outputs["generate"][page]
            if mine == theirs:
                continue
            shared = range(min(len(mine), len(theirs)))
            place = next((at for at in shared if mine[at] != theirs[at]), None)
            margin = inf
            if place is not None:
                margin = _margin(target, images[page], (mine, theirs), place, most)
            at = len(shared) if place is None else place
            found.append(Divergence(page, way, at, margin, distance(mine, theirs)))
    return found


def _margin(
    target: Target, image: Any, outputs: Sequence[list[int]], place: int, most: int
) -> float:
    """Between two outputs' tokens at a place, teacher-forced: one of the two is the choice."""
    inputs = target.page_inputs(image)
    margins = [0.0]
    for tokens in outputs:
        sequence = prefill(target.model, inputs, max_new_tokens=most)
        seen = verify(target.model, sequence, tokens[: place + 1])
        margins += [m for at, m in zip(seen.differing, seen.margins, strict=True) if at == place]
    return max(margins)


def summary(apart: Sequence[Divergence], ways: Sequence[str], pages: int) -> Iterator[str]:
    """Lines: how many pages of each way are the same, and how far apart the others are."""
    wide = 2 + max(map(len, ways))
    for way in ways:
        mine = [one for one in apart if one.way == way]
        told = f"{way:{wide}}{pages - len(mine):4}/{pages} pages as generate"
        if mine:
            told += (
                f"; else first apart at token {median(one.place for one in mine):.0f} (median), "
                f"{sum(one.distance for one in mine) / pages:.2%} edits a page (mean of all)"
            )
        yield told
    for one in apart:
        yield (
            f"{one.way}: {one.page} differs from generate first at token {one.place}, "
            f"margin {one.margin:.2g}"
        )
