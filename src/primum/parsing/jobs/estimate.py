"""What a whole job will take and cost, from a sample of its own pages, each way in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

from primum.parsing.jobs.inputs import PageInput, is_blank
from primum.parsing.jobs.job import Job
from primum.parsing.jobs.reading import Reads

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """One way to read the whole job.

    Attributes:
        way: plain, drafted or endpoint.
        hours: For all pages on one device, with a 95 % interval.
        cost: In the currency of the price.
        failed: Pages of the sample that could not be read this way.
    """

    way: str
    pages: int
    sample: int
    seconds: float
    hours: tuple[float, float, float]
    cost: tuple[float, float, float]
    failed: int = 0


def sampled(pages: Sequence[PageInput], count: int, seed: int = 0) -> list[PageInput]:
    """Some pages at random, in their order, without repetition."""
    places = sorted(Random(seed).sample(range(len(pages)), min(count, len(pages))))
    return [pages[place] for place in places]


def timed(
    job: Job,
    ways: Mapping[str, Reads],
    pages: Sequence[PageInput],
    tell: Callable[[int], None] | None = None,
) -> dict[str, list[float]]:
    """Seconds a page of each way, in turn on each page so that a busy moment hits all alike.

    Args:
        job: Drafts and limits; what it reads with is put aside.
        ways: `plain` gets no drafts.
        pages: The sample; the first page is read once before, uncounted.
        tell: Called after each page, with how often pages were read so far.

    Returns:
        Seconds, in the order of the pages; NaN where a page could not be read.
    """
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for turn, page in enumerate([*pages[:1], *pages]):
        order = list(ways) if turn % 2 else list(ways)[::-1]
        for way in order:
            began = time.perf_counter()
            try:
                image = page.image(job.dpi)
                if not is_blank(image):
                    drafts = [] if way == "plain" else list(job.draft(page).regions)
                    ways[way].read(image, drafts, job.limits)
                spent = time.perf_counter() - began
            except Exception:  # a page that cannot be read is counted, and stops nothing
                spent = float("nan")
            if turn:
                taken[way].append(spent)
        if tell is not None:
            tell(turn + 1)
    return taken


def estimates(
    taken: Mapping[str, Sequence[float]],
    pages: int,
    price: float,
    endpoint_price: float | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """Hours and cost of the whole job, the cheapest way first.

    Args:
        taken: Seconds a page; see `timed`.
        pages: Of the whole job.
        price: Of an hour of this device.
        endpoint_price: Of an hour of the server's; None takes `price`.

    Returns:
        Ways that read no page come last, without figures.
    """
    found = []
    for way, seconds in taken.items():
        good = [one for one in seconds if one == one]
        if not good:
            nothing = (float("nan"),) * 3
            found.append(Estimate(way, pages, 0, float("nan"), nothing, nothing, len(seconds)))
            continue
        luck = Random(seed)
        means = sorted(fmean(luck.choices(good, k=len(good))) for _ in range(RESAMPLES))
        low, high = means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
        mean, low, high = (one * pages / 3600 for one in (fmean(good), low, high))
        hourly = endpoint_price if way == "endpoint" and endpoint_price is not None else price
        cost = (hourly * mean, hourly * low, hourly * high)
        found.append(
            Estimate(
                way,
                pages,
                len(good),
                fmean(good),
                (mean, low, high),
                cost,
                len(seconds) - len(good),
            )
        )
    return sorted(found, key=lambda one: (one.cost[0] != one.cost[0], one.cost[0]))


def verdict(found: Sequence[Estimate], price: float | None) -> str:
    """Which way is the cheapest, and whether that is certain."""
    best, *others = [one for one in found if one.sample]
    unit = "cost" if price else "hours"
    mine: Any = getattr(best, unit)
    names = {"plain": "plain decoding", "drafted": "drafted decoding", "endpoint": "the endpoint"}
    said = f"{names[best.way]} is the cheapest"
    close = [one for one in others if getattr(one, unit)[1] <= mine[2]]
    if close:
        rest = " and ".join(names[one.way] for one in close)
        return f"{said} by the mean, but the sample cannot tell it from {rest}: take more --pages"
    return said
