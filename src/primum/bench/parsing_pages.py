"""A real model on real or made pages: the same output, and how much sooner, each way in turn."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor

from primum.bench.pairs import paired_ratio
from primum.errors import UserError
from primum.files import atomic_write
from primum.parsing.decoding.decoder import Decoder, Mode, Page
from primum.parsing.decoding.prefill import prefill
from primum.parsing.decoding.target import Target
from primum.parsing.decoding.verify import verify
from primum.parsing.drafters.ocr import OcrDrafter
from primum.parsing.drafters.text_layer import TextLayer
from primum.parsing.regions import Region
from primum.parsing.speculation.alignment import Alignment
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.synthesis.page import Recipe, make_page

PICTURES = (".png", ".jpg", ".jpeg")
PLAIN = ("generate", "drafts off")
PROPOSERS = (RegionMatch, OwnOutput, Alignment)


@dataclass(frozen=True)
class Sheet:
    """A page to be read, and where its text layer is, if it has one."""

    name: str
    image: Any
    pdf: bytes | None = None


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


@dataclass(frozen=True)
class Divergence:
    """Where two ways first wrote different tokens.

    Attributes:
        margin: How far apart the model's logits of the two are there.
    """

    page: str
    way: str
    place: int
    margin: float


def run(arguments: Any) -> int:
    """Print exactness and speed of each way, and write every reading."""
    from primum.parsing.jobs.readers import local

    reader = local(arguments, arguments.model, "plain")
    target = reader.target()
    sheets = pages(arguments)
    drafted = [named(one, mode) for mode in arguments.decoding for one in arguments.drafts]
    ways = [*PLAIN, *drafted]
    drafter = OcrDrafter(threads=torch.get_num_threads()) if "ocr" in arguments.drafts else None
    decoders = {way: _decoder(way, arguments) for way in ways if way != "generate"}
    readings: list[Reading] = []
    for turn, sheet in enumerate([sheets[0], *sheets]):
        found = _turn(sheet, turn, ways, decoders, target, drafter, arguments)
        if turn:  # the first page warms up
            readings += found
            print(f"page {turn}/{len(sheets)}: {sheet.name}, {len(found[0].tokens)} tokens",
                  flush=True)  # fmt: skip
    apart = divergences(readings, sheets, target, arguments)
    _print(arguments, readings, apart, ways, decoders)
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


def pages(arguments: Any) -> list[Sheet]:
    """The pages of a folder, or held-out synthetic ones with their PDF twins."""
    from PIL import Image, UnidentifiedImageError

    if arguments.pages < 1:
        raise UserError("There is no page to read", remedy="--pages 20")
    if arguments.images is None:
        low, high = arguments.characters
        recipe = Recipe(
            characters=(low, high),
            height=max(640, high),
            chances={"heading": 0.5, "list": 0.25, "table": 0.25},
        )
        seeds = range(arguments.first, arguments.first + arguments.pages)
        made = [make_page(seed, recipe) for seed in seeds]
        return [Sheet(f"seed {one.seed}", one.image.convert("RGB"), one.pdf()) for one in made]
    folder = Path(arguments.images)
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in PICTURES)
    if not files:
        raise UserError("There are no pictures of pages here", file=folder)
    sheets = []
    for file in files[: arguments.pages]:
        try:
            with Image.open(file) as picture:
                sheets.append(Sheet(file.name, picture.convert("RGB")))
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"This picture cannot be read: {error}", file=file) from None
    return sheets


def _decoder(way: str, arguments: Any) -> Decoder:
    """Plain, or with all proposers."""
    most = arguments.max_new_tokens
    if way in PLAIN:
        return Decoder("plain", batch=1, max_new_tokens=most)
    mode: Mode = "hierarchical" if way == named(drafts_of(way), "hierarchical") else "page"
    return Decoder(mode, PROPOSERS, batch=1, max_new_tokens=most)


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
            if way == "generate":
                one.tokens, one.prefill, seconds = generated(
                    target, sheet.image, arguments.max_new_tokens
                )
                one.seconds.append(seconds)
                continue
            before = decoders[way].host_seconds
            (read,) = decoders[way](target, [Page(sheet.image, drafts[way])])
            one.tokens, one.forwards = read.tokens, read.trace.forwards
            one.accepted = read.trace.accepted
            one.seconds.append(read.seconds["decode"] + read.seconds.get("regions", 0.0))
            one.prefill = read.seconds["prefill"]
            one.host += decoders[way].host_seconds - before
    return list(found.values())


class FirstToken(LogitsProcessor):
    """Notes when `generate` has read the prompt."""

    at: float | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Leave the scores alone."""
        if self.at is None:
            self.at = time.perf_counter()
        return scores


@torch.inference_mode()
def generated(target: Target, image: Any, most: int) -> tuple[list[int], float, float]:
    """Tokens of transformers' own greedy `generate`, seconds of the prompt and of decoding."""
    began, first = time.perf_counter(), FirstToken()
    inputs = target.page_inputs(image)
    out = target.model.generate(
        **inputs, max_new_tokens=most, do_sample=False, logits_processor=[first]
    )[0]
    ended = time.perf_counter()
    start = 0 if target.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    ready = first.at or ended
    return out[start:].tolist(), ready - began, ended - ready


def regions(drafts: str, sheet: Sheet, drafter: OcrDrafter | None) -> list[Region]:
    """What drafts for a page."""
    if drafts == "ocr" and drafter is not None:
        return drafter(sheet.image)
    if drafts in ("text", "noise"):
        if sheet.pdf is None:
            raise UserError(f"{sheet.name} has no text layer", remedy="--drafts ocr empty")
        found = text_layer(sheet.pdf)
        return found if drafts == "text" else [_shuffled(one) for one in found]
    return []


def text_layer(pdf: bytes) -> list[Region]:
    """What the text layer of a one-page PDF says."""
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(pdf)
        file.flush()
        layer = TextLayer(Path(file.name))
        found = layer.regions(0, dpi=72)
        layer.close()
    return found


def _shuffled(region: Region) -> Region:
    """The same letters, in an order that says nothing."""
    letters = list(region.text)
    Random(len(letters)).shuffle(letters)
    return replace(region, text="".join(letters))


def divergences(
    readings: Sequence[Reading], sheets: Sequence[Sheet], target: Target, arguments: Any
) -> list[Divergence]:
    """Where a way's output is not `generate`'s, with the margin between the two tokens."""
    images = {sheet.name: sheet.image for sheet in sheets}
    plain = {one.page: one.tokens for one in readings if one.way == "generate"}
    found = []
    for one in readings:
        mine, theirs = one.tokens, plain[one.page]
        if mine == theirs:
            continue
        pairs = zip(mine, theirs, strict=False)
        place = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
        if place is None:  # one ends before the other: something is wrong
            found.append(Divergence(one.page, one.way, min(len(mine), len(theirs)), float("inf")))
            continue
        inputs = target.page_inputs(images[one.page])
        margins = [0.0]
        for tokens in (mine, theirs):  # one of the two is the teacher-forced choice
            sequence = prefill(target.model, inputs, max_new_tokens=arguments.max_new_tokens)
            seen = verify(target.model, sequence, tokens[: place + 1])
            margins += [
                m for at, m in zip(seen.differing, seen.margins, strict=True) if at == place
            ]
        found.append(Divergence(one.page, one.way, place, max(margins)))
    return found


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
    costs = next((one.costs for one in decoders.values() if one.costs), None)
    if costs:
        wide = ", ".join(f"{width}: {cost / costs[1]:.2f}" for width, cost in costs.items())
        print(f"a wider forward costs c(q)/c(1) = {wide}; c(1) = {1000 * costs[1]:.2f} ms")
    print(f"{'':18}{'seconds':>9}{'tokens/forward':>16}{'accepted':>10}{'proposing':>11}"
          f"{'same pages':>12}  speed against {fastest}")  # fmt: skip
    for way, found in by_way.items():
        forwards = sum(one.forwards or len(one.tokens) for one in found)
        same = len(found) - sum(one.way == way for one in apart)
        host = sum(one.host for one in found) / sum(sum(one.seconds) for one in found)
        drafted = sum(one.accepted for one in found) / sum(tokens)
        ratio = paired_ratio(base, [median(one.seconds) for one in found])
        print(f"{way:18}{total[way]:9.2f}{sum(tokens) / forwards:16.2f}{drafted:10.1%}{host:11.1%}"
              f"{same:8}/{len(found)}  {ratio}")  # fmt: skip
        taken = sum(one.accepted > 0 for one in found)
        if way not in PLAIN:
            print(f"{'':18}drafts accepted on {taken}/{len(found)} pages; "
                  f"made in {fmean(one.drafting for one in found):.3f} s a page; "
                  f"{crossing(by_way[fastest], found)}")  # fmt: skip
    for one in apart:
        print(f"{one.way}: {one.page} differs from generate first at token {one.place}, "
              f"margin {one.margin:.2g}")  # fmt: skip


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
