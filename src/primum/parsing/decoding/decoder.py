"""Pages to text in one of five modes: which prompts are run, and who drafts for whom."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from primum.errors import UserError
from primum.extras import require
from primum.parsing.decoding.cost import measure
from primum.parsing.decoding.loop import Row, decode, row
from primum.parsing.decoding.prefill import Prefilled, prefill
from primum.parsing.decoding.steps import can_take_trees
from primum.parsing.decoding.target import Target
from primum.parsing.decoding.verify import Verification, verify
from primum.parsing.regions import FURNITURE, Box, Region
from primum.parsing.speculation.budget import Budget, MeasuredBudget
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.proposer import Proposer
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.speculation.trace import Trace

Mode = Literal["plain", "page", "hierarchical", "region", "auto"]
MARGIN = 5  # pixels around a crop
EXPLORE = 50  # pages between two looks at the modes that seemed slower


@dataclass
class Page:
    """One page to read.

    Args:
        image: PIL, RGB.
        regions: What drafters found, in reading order.
        texts: Further drafts as plain text, for instance a PDF's text layer.
    """

    image: Any
    regions: Sequence[Region] = ()
    texts: Sequence[str] = ()


@dataclass
class Decoded:
    """What came of a page.

    Args:
        tokens: The output, the end token included.
        text: The output as Markdown; in region mode the regions' texts put together.
        mode: The mode that was run.
        lossy: Why the output may differ from plain decoding; empty where it cannot.
        finished: Whether the model ended by itself rather than at the cap.
        trace: The page's steps; in region mode those of all regions.
        seconds: Wall clock by part: `prefill`, `decode`, `verify`, of crops read first `regions`.
        verification: The teacher-forced check, where it was asked for.
        regions: What the output itself says of places and kinds; empty of models that write none.
    """

    tokens: list[int]
    text: str
    mode: Mode
    lossy: str
    finished: bool
    trace: Trace
    seconds: dict[str, float] = field(default_factory=dict)
    verification: Verification | None = None
    regions: list[Region] = field(default_factory=list)


class Decoder:
    """Decodes pages with drafts.

    Args:
        mode: `plain` uses no drafts. `page`: regions and texts draft, the page prompt decides
            every token. `hierarchical`: regions are decoded on their crops first, all at once, and
            draft for the page. `region`: the crops' outputs are the result; lossless only for
            targets whose unit is the region. `auto`: whichever was fastest so far.
        proposers: Each makes a proposer; `encode` and `decode` are given where they are asked for.
        budget: Makes a budget; None measures what a wider forward costs here and decides by that.
        depth: Longest draft.
        max_new_tokens: Cap of a page and of a region.
        batch: Sequences decoded at once.
        tolerance: 1 is strict; see `Rules`.
        verify: Check every page by one teacher-forced pass; where the tolerance is below 1, also
            measure the edit distance to plain decoding.
    """

    def __init__(
        self,
        mode: Mode = "page",
        proposers: Sequence[Callable[..., Proposer]] = (),
        budget: Callable[[], Budget] | None = None,
        depth: int = 48,
        max_new_tokens: int = 8192,
        batch: int = 8,
        tolerance: float = 1.0,
        verify: bool = False,
    ) -> None:
        if not 0 < tolerance <= 1:
            raise UserError(f"tolerance must lie in (0, 1], not {tolerance}", remedy="1 is strict")
        self.mode, self.proposers, self.budget, self.depth = mode, list(proposers), budget, depth
        self.max_new_tokens, self.batch = max_new_tokens, batch
        self.tolerance, self.verify = tolerance, verify
        self.criteria: Any = None  # further stopping criteria, for what must not go on forever
        self.costs: dict[int, dict[int, float]] = {}  # as measured, by sequences at once
        self.pace: dict[Mode, list[float]] = {}  # seconds and tokens by mode, for `auto`
        self._speculators: dict[int, list[Speculator]] = {}
        self._pages, self._look = 0, EXPLORE

    @property
    def host_seconds(self) -> float:
        """Time spent on proposing so far, all pages."""
        return sum(one.seconds for group in self._speculators.values() for one in group)

    def __call__(self, target: Target, pages: Sequence[Page]) -> list[Decoded]:
        """Read pages, `batch` at once; their outputs are in the order of the pages."""
        result: list[Decoded] = []
        for begin in range(0, len(pages), self.batch):
            result += self._together(target, pages[begin : begin + self.batch])
        return result

    def _together(self, target: Target, pages: Sequence[Page]) -> list[Decoded]:
        mode = self._choose(target, pages)
        began = time.perf_counter()
        if mode == "region":
            found = [self._by_regions(target, page) for page in pages]
        else:
            found = self._whole(target, pages, mode)
        pace = self.pace.setdefault(mode, [0.0, 0.0])
        pace[0] += time.perf_counter() - began
        pace[1] += sum(len(one.tokens) for one in found)
        self._pages += len(pages)
        return found

    def _choose(self, target: Target, pages: Sequence[Page]) -> Mode:
        if self.mode != "auto":
            return self.mode
        if target.unit == "region":
            return "region"
        modes: list[Mode] = ["plain", "page"]
        if any(len(_crops(page)) > 1 for page in pages):
            modes.append("hierarchical")
        for mode in modes:
            if mode not in self.pace:
                return mode
        if self._pages >= self._look:
            self._look = self._pages + EXPLORE
            return modes[self._pages // EXPLORE % len(modes)]
        return min(modes, key=lambda mode: self.pace[mode][0] / max(1.0, self.pace[mode][1]))

    def _whole(self, target: Target, pages: Sequence[Page], mode: Mode) -> list[Decoded]:
        """The page prompt decides every token."""
        drafts = [self._drafts(target, page) for page in pages]
        refining = time.perf_counter()
        if mode == "hierarchical":
            for page, made in zip(pages, drafts, strict=True):
                made.insert(0, self._refined(target, page))
        began = time.perf_counter()
        inputs = [target.page_inputs(page.image) for page in pages]
        sequences = [self._prefill(target, one) for one in inputs]
        ready = time.perf_counter()
        rows = self._run(target, sequences, drafts if mode != "plain" else None)
        done = time.perf_counter()
        share = len(pages)
        result = []
        for page, one, prompt in zip(pages, rows, inputs, strict=True):
            seconds = {"prefill": (ready - began) / share, "decode": (done - ready) / share}
            if mode == "hierarchical":
                seconds["regions"] = (began - refining) / share
            read = self._decoded(target, one, mode, seconds)
            surface = target.surface.on(page.image.size)
            read.regions, read.text = surface.found(read.text), surface.markdown(read.text)
            if self.verify:
                started = time.perf_counter()
                again = self._prefill(target, prompt)
                read.verification = verify(target.model, again, read.tokens)
                if self.tolerance < 1:
                    read.lossy += f", edit distance {self._distance(target, prompt, read):.4f}"
                seconds["verify"] = time.perf_counter() - started
            result.append(read)
        return result

    def _distance(self, target: Target, prompt: Mapping[str, Any], read: Decoded) -> float:
        """Edits between this output and plain decoding's, as a share of the longer one."""
        sequence = self._prefill(target, prompt)
        plain = row(sequence, None)
        decode(target.model, [sequence], [plain])
        distance = require("rapidfuzz.distance", "parsing").Levenshtein
        return distance.normalized_distance(read.tokens, plain.rules.output)

    def _by_regions(self, target: Target, page: Page) -> Decoded:
        """Crops decoded on their own, put together in reading order."""
        regions = _crops(page) or [Region(Box(0, 0, *page.image.size), "text")]
        began = time.perf_counter()
        parts = self._regions(target, regions, page.image)
        surface, between = target.surface, target.surface.between
        texts = [surface.markdown(p.text, r.kind) for p, r in zip(parts, regions, strict=True)]
        names = parts[0].trace.names
        return Decoded(
            tokens=[token for part in parts for token in part.tokens],
            text=between.join(filter(None, texts)),
            mode="region",
            lossy=self._loss("region", target),
            finished=all(part.finished for part in parts),
            trace=Trace(names, [step for part in parts for step in part.trace.steps]),
            seconds={"decode": time.perf_counter() - began},
        )

    def _regions(self, target: Target, regions: Sequence[Region], image: Any) -> list[Decoded]:
        """Decode crops, those of like length together, in the order of the regions."""
        order = sorted(range(len(regions)), key=lambda i: len(regions[i].text))
        result: dict[int, Decoded] = {}
        for begin in range(0, len(order), self.batch):
            group = order[begin : begin + self.batch]
            inputs = [
                target.region_inputs(crop(image, regions[i].box), regions[i].kind) for i in group
            ]
            sequences = [self._prefill(target, one) for one in inputs]
            drafts = [
                [Draft.of([target.surface.write(regions[i]) or regions[i].text], target.encode)]
                for i in group
            ]
            for i, one in zip(group, self._run(target, sequences, drafts), strict=True):
                result[i] = self._decoded(target, one, "region", {})
        return [result[i] for i in range(len(regions))]

    def _prefill(self, target: Target, inputs: Mapping[str, Any]) -> Prefilled:
        more = {"stopping_criteria": self.criteria} if self.criteria else {}
        return prefill(target.model, dict(inputs), max_new_tokens=self.max_new_tokens, **more)

    def _run(
        self, target: Target, sequences: Sequence[Prefilled], drafts: Sequence[list[Draft]] | None
    ) -> list[Row]:
        """Decode together where the model takes trees, else one after another."""
        together = all(can_take_trees(target.model, sequence) for sequence in sequences)
        rows = []
        for number, sequence in enumerate(sequences):
            speculator = None
            if drafts is not None:
                group = sequences if together else [sequence]
                speculator = self.speculator(target, number, group)
                speculator.start(drafts[number])
            rows.append(row(sequence, speculator, self.tolerance))
        if together:
            decode(target.model, sequences, rows)
        else:
            for sequence, one in zip(sequences, rows, strict=True):
                decode(target.model, [sequence], [one])
        return rows

    def speculator(self, target: Target, number: int, sequences: Sequence[Prefilled]) -> Speculator:
        """What drafts for the `number`-th of the sequences decoded at once, kept between pages.

        Groups of about the same size share theirs: how much a wider forward costs, and what drafts
        are worth, depends on it.
        """
        size = 1 << (len(sequences) - 1).bit_length()
        group = self._speculators.setdefault(size, [])
        while len(group) <= number:
            made = [_made(proposer, target) for proposer in self.proposers]
            group.append(Speculator(made, self._budget(target, size, sequences), self.depth))
        return group[number]

    def _budget(self, target: Target, size: int, sequences: Sequence[Prefilled]) -> Budget:
        if self.budget is not None:
            return self.budget()
        if size not in self.costs:
            self.costs[size] = measure(target.model, sequences)
        return MeasuredBudget(self.costs[size])

    def _drafts(self, target: Target, page: Page) -> list[Draft]:
        surface, encode = target.surface.on(page.image.size), target.encode
        between, pieces = surface.between, surface.pieces(page.regions)
        drafts = [Draft.of([text], encode, between) for text in page.texts if text]
        return [*drafts, *([Draft.of(pieces, encode, between)] if any(pieces) else [])]

    def _refined(self, target: Target, page: Page) -> Draft:
        """The page's draft with what the target itself made of each crop."""
        surface, crops = target.surface.on(page.image.size), _crops(page)
        read = self._regions(target, crops, page.image)
        pieces = [surface.rewritten(r, one.text) for r, one in zip(crops, read, strict=True)]
        return Draft.of(pieces, target.encode, surface.between)

    def _decoded(self, target: Target, one: Row, mode: Mode, seconds: dict[str, float]) -> Decoded:
        output = one.rules.output
        finished = bool(output) and output[-1] in one.rules.ends
        text = target.decode(output)
        return Decoded(output, text, mode, self._loss(mode, target), finished, one.trace, seconds)

    def _loss(self, mode: Mode, target: Target) -> str:
        reasons = []
        if self.tolerance < 1:
            reasons.append(f"tolerance {self.tolerance:g}")
        if mode == "region" and target.unit == "page":
            reasons.append("crops instead of the page prompt")
        if mode != "region" and target.unit == "region":
            reasons.append("the page prompt instead of crops")
        return ", ".join(reasons)


def crop(image: Any, box: Box) -> Any:
    """A region of a page with a small margin, cut to the page and never empty."""
    left = int(min(max(box.left - MARGIN, 0), image.width - 1))
    top = int(min(max(box.top - MARGIN, 0), image.height - 1))
    right = int(max(min(box.right + MARGIN, image.width), left + 1))
    bottom = int(max(min(box.bottom + MARGIN, image.height), top + 1))
    return image.crop((left, top, right, bottom))


def _crops(page: Page) -> list[Region]:
    return [one for one in page.regions if one.kind != "figure" and one.kind not in FURNITURE]


def _made(proposer: Callable[..., Proposer], target: Target) -> Proposer:
    """Build a proposer, giving it the target's tokenizer where it asks for it."""
    asked = inspect.signature(proposer).parameters
    given = {"encode": target.encode, "decode": target.decode}
    return proposer(**{name: value for name, value in given.items() if name in asked})
