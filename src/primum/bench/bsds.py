"""`primum bench bsds`: UniAP against its peers on BSDS500, on the same features."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

OURS = "uniap:recommended"
METHODS = (
    OURS, "uniap:paper", "uniap:author_code", "greedy", "normalised_cut", "maskcut",
    "felzenszwalb", "slic",
)  # fmt: skip
BUDGETS = (10, 50, 100)
MARGIN = -0.01  # `recommended` may be behind a same-feature peer by no more than this
SCALES = 25
FINEST, COARSEST = 400, 2  # mean regions of a train picture at both ends of a sweep
PROBED = 20  # pictures of train that sweeps are fitted on
DISTANCES = np.geomspace(1e-3, 1, 60)  # 1 - threshold


def register(kinds: Any) -> None:
    """Add `primum bench bsds`."""
    parser = kinds.add_parser(
        "bsds",
        help="UniAP and its peers on BSDS500: covering, best overlap, seconds an image",
        description="Sweep every method over its scale on BSDS500. Which masks are kept at a "
        "budget is chosen on train for every method alike; figures are of test. Interrupted runs "
        "go on where they stopped.",
        epilog="primum bench bsds --data data/bsds500 --backbone package:efficientnet_lite0 "
        "--layer 2 3 --size 480 -o outputs/bsds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="data/bsds500", help="folder with images/, groundTruth/")
    parser.add_argument("--backbone", default="package:efficientnet_lite0", metavar="NAME")
    parser.add_argument("--weights", metavar="FILE", help="its .safetensors; none: timm's own")
    parser.add_argument(
        "--layer", nargs="+", default=["2", "3"], help="tokens, keys, or stages of a CNN"
    )
    parser.add_argument("--size", type=int, default=480, help="pixels of the longer side")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--limit", type=int, help="pictures of test, evenly spread")
    parser.add_argument(
        "--train-limit", type=int, default=60, help="pictures of train that choices are made on"
    )
    parser.add_argument("-o", "--output", default="outputs/bsds", metavar="FOLDER")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate every method, print the table and write it."""
    from primum.benchmarks.environment import environment
    from primum.files import atomic_write
    from primum.segmentation.backbones import Backbone

    words = arguments.layer
    layer = words[0] if not words[0].isdigit() else [int(word) for word in words]
    backbone = Backbone(arguments.backbone, arguments.weights, layer=layer, size=arguments.size)
    grids = probes(backbone, arguments)
    swept = {}
    for name in arguments.methods:
        peer = method(name, backbone, grids)
        swept[name] = {split: evaluated(peer, split, arguments) for split in ("train", "test")}
    lines, rows = table(swept)
    head = [
        f"Features: {arguments.backbone}, {backbone.label}, layer {' '.join(words)}, longer side "
        f"{arguments.size} px. Intervals: 95 % bootstrap over images.",
        "",
    ]
    text = "\n".join([*head, *lines]) + "\n"
    print(text)
    folder = Path(arguments.output)
    made = {"backbone": backbone.identity(), "environment": environment(), "rows": rows}
    atomic_write(folder / "bsds.md", text)
    atomic_write(folder / "bsds.json", json.dumps(made, indent=2) + "\n")
    print(f"written: {folder / 'bsds.md'}, {folder / 'bsds.json'}")
    return 0


def probes(backbone: Any, arguments: argparse.Namespace) -> list[np.ndarray]:
    """Features of some pictures of train, evenly spread."""
    from primum.benchmarks.boundaries_bsds import BoundariesBsds
    from primum.segmentation.pictures import read_picture

    cases = BoundariesBsds(arguments.data, split="train", limit=PROBED).cases
    return [backbone.grid(read_picture(case.files["image"])) for case in cases]


def fitted(make: Callable[[Sequence[float]], Any], grids: Sequence[np.ndarray]) -> list[float]:
    """Thresholds from fine to coarse that cut train pictures into `FINEST` to `COARSEST` regions.

    How far cosines reach differs between backbones and similarities, numbers of regions do not.
    """
    peer = make([1 - float(distance) for distance in DISTANCES])
    counts = np.mean(
        [[len(np.unique(level)) for level in peer.group(grid)] for grid in grids], axis=0
    )
    falling = np.minimum.accumulate(counts)
    wanted = np.geomspace(FINEST, COARSEST, SCALES)
    found = np.interp(-np.log(wanted), -np.log(falling), np.log(DISTANCES))
    return [round(1 - float(distance), 5) for distance in np.exp(found)]


def method(name: str, backbone: Any, grids: Sequence[np.ndarray]) -> Any:
    """A method by its name, sweeping its scale."""
    from primum.segmentation.peers.felzenszwalb import Felzenszwalb
    from primum.segmentation.peers.greedy import GreedyMerging
    from primum.segmentation.peers.maskcut import MaskCut
    from primum.segmentation.peers.normalised_cut import NormalisedCut
    from primum.segmentation.peers.slic import Slic
    from primum.segmentation.peers.uniap import UniapSweep

    kind, _, preset = name.partition(":")
    if kind in ("uniap", "greedy"):
        make = partial(UniapSweep, backbone, preset) if preset else partial(GreedyMerging, backbone)
        return make(fitted(make, grids))
    made: dict[str, Callable[[], Any]] = {
        "normalised_cut": lambda: NormalisedCut(backbone),
        "maskcut": lambda: MaskCut(backbone),
        "felzenszwalb": Felzenszwalb,
        "slic": Slic,
    }
    return made[kind]()


@dataclass
class Rows:
    """The result rows of one method on one split, as columns over images."""

    covered: np.ndarray  # (images, scales)
    best: np.ndarray
    total: np.ndarray
    overlap: Mapping[str, np.ndarray]  # order -> (images, budgets)
    regions: np.ndarray
    seconds: np.ndarray


def evaluated(peer: Any, split: str, arguments: argparse.Namespace) -> Rows:
    """Sit the benchmark, or read what an earlier run left."""
    from primum.benchmarks.boundaries_bsds import BoundariesBsds
    from primum.benchmarks.candidates import resolve_candidate
    from primum.benchmarks.results import read_parquet
    from primum.benchmarks.run import run_benchmark

    benchmark = BoundariesBsds(
        arguments.data, split=split, boundaries=False, budgets=BUDGETS,
        limit=arguments.limit if split == "test" else arguments.train_limit,
    )  # fmt: skip
    found = run_benchmark(
        benchmark, resolve_candidate(method=peer), output=arguments.output, level="summary",
        quiet=True,
    )  # fmt: skip
    results = read_parquet(found.folder / "results.parquet")
    records = [result.record for result in results]

    def column(key: str) -> np.ndarray:
        return np.array([record[key] for record in records], float)

    return Rows(
        column("covered"), column("best"), column("total"),
        {name: np.array([record["overlap"][name] for record in records])
         for name in records[0]["overlap"]},
        column("regions"), np.array([result.seconds or 0.0 for result in results]),
    )  # fmt: skip


def figures(train: Rows, test: Rows) -> dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]]:
    """Each figure of a method on test, as a function of image weights, and what was chosen."""
    from primum.metrics.covering import ods, ois
    from primum.metrics.resampling import ratio_of_sums

    made: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
        "ODS": (lambda w: ods(test.covered, test.total, w), ""),
        "OIS": (lambda w: ois(test.covered, test.total, w), ""),
        "best": (lambda w: (w @ test.best) / (w @ test.total), ""),
    }
    for column, budget in enumerate(BUDGETS):
        order = max(train.overlap, key=lambda name: float(train.overlap[name][:, column].sum()))
        made[f"mIoU@{budget}"] = (
            ratio_of_sums(test.overlap[order][:, column], test.regions), order,
        )  # fmt: skip
    return made


def table(swept: Mapping[str, Mapping[str, Rows]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The Markdown lines, and the same as rows for machines."""
    from primum.metrics.resampling import paired_resampled_difference, resampled_score

    own = {name: figures(rows["train"], rows["test"]) for name, rows in swept.items()}
    names = list(next(iter(own.values())))
    lines = [f"| method | {' | '.join(names)} | s/image |", "|---" * (len(names) + 2) + "|"]
    rows: list[dict[str, Any]] = []
    for name, made in own.items():
        images = len(swept[name]["test"].total)
        scores = {
            key: resampled_score(key, images, figure, f"order {order}" if order else "covering")
            for key, (figure, order) in made.items()
        }
        seconds = float(np.median(swept[name]["test"].seconds))
        cells = [f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in scores.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds:.2f} |")
        rows.append(
            {"method": name, "images": images, "seconds": seconds}
            | {key: one._asdict() for key, one in scores.items()}
        )
    if OURS in own:
        lines += ["", f"{OURS} minus each other, paired by image:", ""]
        lines += [f"| against | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for name, made in own.items():
            if name == OURS:
                continue
            images = len(swept[name]["test"].total)
            gaps = {
                key: paired_resampled_difference(key, images, own[OURS][key][0], figure, key)
                for key, (figure, _) in made.items()
            }
            cells = [f"{g.value:+.3f} [{g.low:+.3f}, {g.high:+.3f}]" for g in gaps.values()]
            lines.append(f"| {name} | {' | '.join(cells)} |")
            rows.append(
                {"method": OURS, "against": name}
                | {key: one._asdict() for key, one in gaps.items()}
                | {"holds": verdict(gaps.values())}
            )
    return lines, rows


def verdict(gaps: Sequence[Any] | Any) -> bool:
    """Whether no lower bound is below the margin."""
    return all(gap.low > MARGIN for gap in gaps)
