"""`primum bench uniap`: UniAP against four other ways to group the same features.

All of them take turns in one run, and every ratio is of two times from the same turn. A backbone's
time is left out, so the figures are those of the grouping alone; `--within` puts it back.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primum.bench.pairs import Ratio, paired_ratio
from primum.bench.uniap_fixtures import CHANNELS, NAMES, PHOTOS, SIDE, load, sized
from primum.bench.uniap_work import floor_seconds, work
from primum.benchmarks.environment import environment
from primum.errors import UserError
from primum.files import atomic_write
from primum_kernels.agglomeration import PRESETS, agglomerate

DEFAULTS = dict(thresholds=(0.8, 0.7, 0.6, 0.5, 0.4), strict=False)
# What is timed, the rungs that do the same, and the milliseconds to stay within on the photos.
SETTINGS: dict[str, tuple[dict[str, Any], tuple[str, ...], float]] = {
    "author_code": (
        dict(PRESETS["author_code"]) | {"semantic": False},
        ("scipy", "dense", "greedy"),
        15,
    ),
    "paper": (dict(PRESETS["paper"]) | {"semantic": False}, ("scipy", "dense", "maskcut"), 40),
    "paper+semantic": (dict(PRESETS["paper"]) | {"semantic": True}, (), 60),
    "recommended": (dict(PRESETS["recommended"]), (), float("inf")),
}

PHOTO_SETTINGS = SETTINGS["paper+semantic"][0]
ON_GPU = {1: 1.0, 16: 0.3}  # batch -> ms a picture to stay within: photos, 64x64x768, semantic on


def median(seconds: list[float], pictures: int = 1) -> dict[str, float]:
    """Median in milliseconds a picture with a 95 % bootstrap interval.

    >>> median([0.002, 0.002, 0.002])
    {'ms': 2.0, 'low': 2.0, 'high': 2.0, 'n': 3}
    """
    values = np.asarray(seconds) * 1e3 / pictures
    picks = np.random.default_rng(0).integers(len(values), size=(10_000, len(values)))
    low, high = np.quantile(np.median(values[picks], 1), [0.025, 0.975])
    return {
        "ms": float(np.median(values)),
        "low": low.item(),
        "high": high.item(),
        "n": len(values),
    }


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds of one call, the device drained before and after."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def replayed(call: Callable[[], object]) -> Callable[[], object]:
    """The call recorded as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def agreement(ours: Tensor, theirs: Tensor) -> float:
    """Share of neighbouring token pairs on which two label stacks agree (together or apart).

    Similarities within rounding of a threshold may fall on either side, so it need not be one.
    """
    theirs = theirs.view_as(ours)

    def together(labels: Tensor) -> Tensor:
        right = labels[..., :, 1:] == labels[..., :, :-1]
        down = labels[..., 1:, :] == labels[..., :-1, :]
        return torch.cat([right.flatten(), down.flatten()])

    return (together(ours) == together(theirs)).float().mean().item()


def run(arguments: Any) -> int:
    """Measure, print a table a setting, and optionally write the figures."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "No CUDA device is here, so nothing can be measured on one",
            remedy="run the same command on a machine with a GPU, or leave out --device cuda",
        )
    for given, known in ((arguments.features, NAMES), (arguments.settings, SETTINGS)):
        for name in given or ():
            if name not in known:
                raise UserError(f"{name} is not one of {', '.join(known)}")
    torch.set_num_threads(arguments.threads)
    arguments.features = arguments.features or list(NAMES)
    arguments.grid = arguments.grid or (64 if arguments.large else SIDE)
    arguments.channels = arguments.channels or (768 if arguments.large else CHANNELS)
    place = environment(torch.device(arguments.device)) | {"threads": torch.get_num_threads()}
    if arguments.within:
        from primum.bench import uniap_within

        rows = uniap_within.MEASUREMENTS[arguments.within](arguments)
        missed: list[str] = []
        uniap_within.show(rows)
    else:
        rows, missed = grouping(arguments, str(place["device"]))
    print(f"{place['device']}, {place['threads']} threads; {place['versions']}")
    if not arguments.within:
        print("\n".join(f"MISSED  {line}" for line in missed) or "Every target is met.")
    if arguments.output:
        command = "primum " + " ".join(sys.argv[1:])
        figures = {"command": command, "environment": place, "rows": rows, "missed": missed}
        atomic_write(Path(arguments.output), json.dumps(figures, indent=1, default=str) + "\n")
    return 1 if missed else 0


def grouping(arguments: Any, device: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Time UniAP and its rungs in turn: a row a setting, and the targets that were missed."""
    from primum.bench.uniap_rungs import RUNGS, SAME_LABELS, SLOW

    rows: list[dict[str, Any]] = []
    missed: list[str] = []
    small = arguments.device == "cpu" and arguments.batch_size == 1
    small = small and (arguments.grid, arguments.channels) == (SIDE, CHANNELS)
    within = ON_GPU.get(arguments.batch_size, float("inf"))
    within = within if (arguments.grid, arguments.channels) == (64, 768) else float("inf")
    for name in arguments.features:
        features = sized(load(name), arguments.grid, arguments.channels).to(arguments.device)
        if arguments.device == "cuda":
            features = features.bfloat16()
        batch = features.expand(arguments.batch_size, -1, -1, -1).contiguous()
        for setting in arguments.settings or SETTINGS:
            options, rungs, limit = SETTINGS[setting]
            rungs = tuple(rung for rung in rungs if arguments.slow_turns or rung not in SLOW)
            call = partial(agglomerate, batch, **options)
            result = agglomerate(features, **options)
            sides: dict[str, Callable[[], object]] = {"primum": call}
            if arguments.device == "cuda":
                sides["graph"] = replayed(call)
            preset = DEFAULTS | options
            for rung in rungs:
                sides[rung] = partial(each, RUNGS[rung], batch, preset)
            agreed = {
                rung: agreement(result.labels[:, 0], RUNGS[rung](features, preset))
                for rung in rungs
                if rung in SAME_LABELS
            }
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            call()
            for turn in range(arguments.turns):
                order = [*sides][turn % len(sides) :] + [*sides][: turn % len(sides)]
                for side in order:
                    if side not in SLOW or turn < arguments.slow_turns:
                        seconds[side].append(timed(sides[side], arguments.device))
            ours = seconds["graph" if "graph" in seconds else "primum"]
            ratios = {
                rung: paired_ratio(seconds[rung], ours[: len(seconds[rung])]) for rung in rungs
            }
            done = work(features, **options)
            floor = floor_seconds(done, device)
            row = {
                "features": name, "setting": setting, "shape": list(batch.shape),
                "supernodes": result.counts[:, 0].tolist(),
                "work": [asdict(level) for level in done],
                "roofline": None if floor is None else floor * len(batch) / np.median(ours),
                "times": {side: median(values, len(batch)) for side, values in seconds.items()},
                "ratios": {rung: asdict(ratio) for rung, ratio in ratios.items()},
                "agreement": agreed, "seconds": seconds,
            }  # fmt: skip
            rows.append(row)
            show(row, ratios)
            if "scipy" in ratios and ratios["scipy"].low < arguments.at_least:
                missed.append(f"{name} {setting}: {ratios['scipy']} of scipy")
            if arguments.device == "cuda":
                limit = within if setting == "paper+semantic" else float("inf")
            took = median(ours, len(batch))["ms"]
            if (small or arguments.device == "cuda") and name in PHOTOS and took > limit:
                missed.append(f"{name} {setting}: {took:.2f} ms a picture > {limit}")
    return rows, missed


def each(rung: Callable[..., Tensor], batch: Tensor, preset: dict[str, Any]) -> list[Tensor]:
    """A rung on every image of a batch."""
    return [rung(image[None], preset) for image in batch]


def show(row: dict[str, Any], ratios: dict[str, Ratio]) -> None:
    """Print one measurement."""
    shape = "x".join(map(str, row["shape"]))
    print(f"\n{row['features']} {row['setting']}, {shape}; supernodes {row['supernodes']}")
    flops, moved = (sum(level[unit] for level in row["work"]) for unit in ("flops", "bytes"))
    line = f"  a picture takes {flops / 1e9:.1f} GFLOP and {moved / 1e6:.0f} MB at least"
    if row["roofline"] is not None:
        line += f"; {100 * row['roofline']:.0f} % of the roofline"
    print(line)
    for side, time_ in row["times"].items():
        line = f"  {side:8} {time_['ms']:9.2f} ms [{time_['low']:.2f}, {time_['high']:.2f}]"
        line += f" n = {time_['n']}"
        if side in ratios:
            line += f"   {ratios[side].value:.2f} times as long"
            line += f" [{ratios[side].low:.2f}, {ratios[side].high:.2f}]"
        if side in row["agreement"]:
            line += f"   labels agree on {100 * row['agreement'][side]:.2f} %"
        print(line, flush=True)
