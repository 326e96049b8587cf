"""A real model on real or made pages: the same output, and how much sooner, each way in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from primum.bench.pairs import paired_ratio
from primum.bench.parsing.generated import generated
from primum.bench.parsing.sameness import Divergence, divergences, summary
from primum.bench.parsing.sheets import Sheet, pages, regions
from primum.files import atomic_write
from primum.parsing.decoding.decoder import Decoder, Mode, Page
from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.decoding.target import Target
from primum.parsing.drafters.ocr import OcrDrafter
from primum.parsing.peers import fixed_window
from primum.parsing.speculation.alignment import Alignment
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.speculator import Speculator

PLAIN = ("generate", "drafts off")
STRICT: tuple[Mode, ...] = ("page", "hierarchical", "auto")
LOOKUP, WINDOW = "prompt lookup (transformers)", "fixed window (paper)"
CROPS = CROWD = 8  # crops of a page and whole pages, read at once
AT_ONCE = f"drafts off, {CROWD} at once"
PROPOSERS = (RegionMatch, OwnOutput, Alignment)


@dataclass
class Reading:
    """One page read one way, once a round.

    Attributes:
        seconds: Of decoding alone, that of crops included.
        drafting: Seconds of making the drafts.
        prefill: Seconds of the prompt.
        host: Seconds spent on proposing, all rounds.
        forwards: Of the last round; None of `generate`.
        accepted: Tokens that somebody had drafted.
    """

    page: str
    way: str
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    drafting: float = 0.0
    prefill: float = 0.0
    host: float = 0.0
    forwards: int | None = None
    accepted: int = 0


def run(arguments: Any) -> int:
    """Print exactness and speed of each way, and write every reading."""
    from primum.parsing.jobs.readers import local

    reader = local(arguments, arguments.model, "plain")
    target = reader.target()
    sheets = pages(arguments)
    drafted = [named(one, mode) for mode in arguments.decoding for one in arguments.drafts]
    peers = [LOOKUP, f"{arguments.drafts[0]}, {WINDOW}"] if arguments.peers else []
    ways = [*PLAIN, *drafted, *peers]
    drafter = OcrDrafter(threads=torch.get_num_threads()) if "ocr" in arguments.drafts else None
    decoders = {way: _decoder(way, arguments) for way in ways if way not in ("generate", LOOKUP)}
    readings: list[Reading] = []
    for turn, sheet in enumerate([sheets[0], *sheets]):
        found = _turn(sheet, turn, ways, decoders, target, drafter, arguments)
        if turn:  # the first page warms up
            readings += found
            print(f"page {turn}/{len(sheets)}: {sheet.name}, {len(found[0].tokens)} tokens",
                  flush=True)  # fmt: skip
    if half := target.model.dtype in (torch.bfloat16, torch.float16):
        readings += _at_once(target, sheets, arguments.max_new_tokens)
        ways.append(AT_ONCE)
    outputs = {way: {one.page: one.tokens for one in readings if one.way == way} for way in ways}
    images = {sheet.name: sheet.image for sheet in sheets}
    apart = divergences(outputs, images, target, arguments.max_new_tokens)
    _print(arguments, readings, apart, ways, decoders)
    if half:
        print(f"{target.model.dtype}: what other shapes and kernels alone change is told by the "
              f"plain ways, {', '.join(repr(way) for way in (*PLAIN[1:], AT_ONCE))}")  # fmt: skip
    if half or apart:
        print(*summary(apart, ways[1:], len(sheets)), sep="\n")
    if arguments.output:
        told = {
            "model": arguments.model, "dtype": str(target.model.dtype), "rounds": arguments.rounds,
            "threads": torch.get_num_threads(), "torch": torch.__version__,
            "readings": [asdict(one) for one in readings],
            "divergences": [asdict(one) for one in apart],
            "costs": {way: one.costs for way, one in decoders.items() if one.costs},
        }  # fmt: skip
        atomic_write(arguments.output, json.dumps(told, indent=1))
    return 0


def _decoder(way: str, arguments: Any) -> Decoder:
    """Plain, or with all proposers."""
    most = arguments.max_new_tokens
    if way in PLAIN:
        return Decoder("plain", batch=1, max_new_tokens=most)
    if way.endswith(WINDOW):
        return FixedWindows("page", batch=1, max_new_tokens=most)
    for mode in STRICT:
        if way == named(drafts_of(way), mode):
            return Decoder(mode, PROPOSERS, batch=CROPS, max_new_tokens=most)
    raise AssertionError(f"nobody knows the way {way}")


class FixedWindows(Decoder):
    """The paper's matcher in our loop, with the drafts and the verification of the other ways."""

    window: Speculator | None = None

    def speculator(self, target: Target, number: int, sequences: Sequence[Prefilled]) -> Speculator:
        """One for all pages, which are read one by one."""
        self.window = self.window or fixed_window()
        return self.window

    @property
    def host_seconds(self) -> float:
        """Time spent on proposing so far, all pages."""
        return self.window.seconds if self.window else 0.0


def named(drafts: str, mode: str) -> str:
    """A way by what drafts and how: page mode goes without saying."""
    return drafts if mode == "page" else f"{drafts}, {mode}"


def drafts_of(way: str) -> str:
    """Whose drafts a way takes."""
    return way.partition(",")[0]


def _turn(
    sheet: Sheet,
    turn: int,
    ways: Sequence[str],
    decoders: dict[str, Decoder],
    target: Target,
    drafter: OcrDrafter | None,
    arguments: Any,
) -> list[Reading]:
    """One page by every way, forwards and backwards in turn."""
    found = {way: Reading(sheet.name, way) for way in ways}
    drafts = {}
    for way in ways:
        began = time.perf_counter()
        drafts[way] = regions(drafts_of(way), sheet, drafter)
        found[way].drafting = time.perf_counter() - began
    for number in range(arguments.rounds if turn else 1):
        order = list(ways) if (turn + number) % 2 else list(ways)[::-1]
        for way in order:
            one = found[way]
            if way in ("generate", LOOKUP):
                more: dict[str, Any] = {"prompt_lookup_num_tokens": 10} if way == LOOKUP else {}
                began = time.perf_counter()
                inputs = target.page_inputs(sheet.image)
                one.prefill = time.perf_counter() - began
                plain = generated(target.model, inputs, arguments.max_new_tokens, **more)
                one.tokens, one.prefill = plain.tokens, one.prefill + plain.prefill
                one.seconds.append(plain.decode)
                continue
            before = decoders[way].host_seconds
            (read,) = decoders[way](target, [Page(sheet.image, drafts[way])])
            one.tokens, one.forwards = read.tokens, read.trace.forwards
            one.accepted = read.trace.accepted
            one.seconds.append(read.seconds["decode"] + read.seconds.get("regions", 0.0))
            one.prefill = read.seconds["prefill"]
            one.host += decoders[way].host_seconds - before
    return list(found.values())


def _at_once(target: Target, sheets: Sequence[Sheet], most: int) -> list[Reading]:
    """All pages plainly, several at once: another order of the same sums."""
    decoder = Decoder("plain", batch=CROWD, max_new_tokens=most)
    found = decoder(target, [Page(sheet.image) for sheet in sheets])
    return [
        Reading(
            sheet.name, AT_ONCE, one.tokens, [one.seconds["decode"]],
            prefill=one.seconds["prefill"], forwards=one.trace.forwards,
        )
        for sheet, one in zip(sheets, found, strict=True)
    ]  # fmt: skip


def _print(
    arguments: Any,
    readings: Sequence[Reading],
    apart: Sequence[Divergence],
    ways: Sequence[str],
    decoders: dict[str, Decoder],
) -> None:
    by_way = {way: [one for one in readings if one.way == way] for way in ways}
    total = {way: sum(median(one.seconds) for one in found) for way, found in by_way.items()}
    fastest = min(PLAIN, key=lambda way: total[way])
    base = [median(one.seconds) for one in by_way[fastest]]
    tokens = [len(one.tokens) for one in by_way["generate"]]
    print(f"{arguments.model}, {len(base)} pages, {sum(tokens)} tokens ({min(tokens)} to "
          f"{max(tokens)} a page), medians of {arguments.rounds} interleaved rounds, "
          f"{torch.get_num_threads()} threads; decoding only")  # fmt: skip
    costs = next((one.costs[1] for one in decoders.values() if 1 in one.costs), None)
    if costs:
        told = ", ".join(f"{width}: {cost / costs[1]:.2f}" for width, cost in costs.items())
        print(f"a wider forward costs c(q)/c(1) = {told}; c(1) = {1000 * costs[1]:.2f} ms")
    wide = 2 + max(map(len, ways))
    print(f"{'':{wide}}{'seconds':>9}{'tokens/forward':>16}{'accepted':>10}{'proposing':>11}"
          f"{'same pages':>12}  speed against {fastest}")  # fmt: skip
    for way, found in by_way.items():
        forwards = sum(one.forwards or len(one.tokens) for one in found)
        per = f"{sum(tokens) / forwards:.2f}" if way != LOOKUP else "not told"
        same = len(found) - sum(one.way == way for one in apart)
        host = sum(one.host for one in found) / sum(sum(one.seconds) for one in found)
        drafted = sum(one.accepted for one in found) / sum(tokens)
        ratio = paired_ratio(base, [median(one.seconds) for one in found])
        print(f"{way:{wide}}{total[way]:9.2f}{per:>16}{drafted:10.1%}{host:11.1%}"
              f"{same:8}/{len(found)}  {ratio}")  # fmt: skip
        taken = sum(one.accepted > 0 for one in found)
        if way not in (*PLAIN, LOOKUP, AT_ONCE):
            print(f"{'':{wide}}drafts accepted on {taken}/{len(found)} pages; "
                  f"made in {fmean(one.drafting for one in found):.3f} s a page; "
                  f"{crossing(by_way[fastest], found)}")  # fmt: skip
        if way == named(drafts_of(way), "auto"):
            fixed = [named(drafts_of(way), mode) for mode in STRICT if mode != "auto"]
            best = min((one for one in (*PLAIN[1:], *fixed) if one in total), key=total.__getitem__)
            print(f"{'':{wide}}{total[way] / total[best] - 1:+.1%} in time against {best}, "
                  "the best of its modes")  # fmt: skip


def crossing(plain: Sequence[Reading], drafted: Sequence[Reading]) -> str:
    """From which length on a page is sooner ready with its drafter's time counted."""
    cost = fmean(one.drafting for one in drafted)
    sooner = sum(
        median(theirs.seconds) > median(mine.seconds) + mine.drafting
        for theirs, mine in zip(plain, drafted, strict=True)
    )
    told = f"end to end sooner on {sooner} pages"
    if len(plain) < 3 or (saved := slope(plain) - slope(drafted)) <= 0:
        return told
    return f"{told}, from about {cost / saved:.0f} tokens a page on"


def slope(found: Sequence[Reading]) -> float:
    """Seconds of one more token."""
    lengths = [len(one.tokens) for one in found]
    return float(np.polyfit(lengths, [median(one.seconds) for one in found], 1)[0])
