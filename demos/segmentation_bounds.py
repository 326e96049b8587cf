"""Judge runs of `segmentation_evidence.sh` on its held-out scenes; 1 if a bound is missed.

What was judged before is read from its rows. Each report lies below the output folder.
"""

import csv
import sys
from pathlib import Path

from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.class_agnostic import ClassAgnostic
from primum.benchmarks.run import run_benchmark
from primum.metrics.score import Score
from primum.segmentation.data.scenes import Scenes, write_coco
from primum.segmentation.peers.of_run import UniapOfRun

HELD_OUT = {"size": 200, "seed": 10_000, "side": 96}  # training draws from seed 0
TUNED = (0.95, 0.9, 0.85, 0.8, 0.7)  # levels at which colours do better than at the run's
BOUNDS = (  # AR@100 of the student exceeds this by at least so many points
    ("final", "UniAP on the run's own final features", 5.0, {}),
    ("untrained", "UniAP on untrained features", 10.0, {"features": "untrained"}),
    ("colours", "UniAP on raw Lab colours", 5.0, {"features": "colours"}),
)
BESIDE = (  # shown, not bounds
    ("final-128", "UniAP on final features of scenes enlarged by a third", {"side": 128}),
    ("tuned", "colours at levels of their own", {"features": "colours", "thresholds": TUNED}),
    ("fine", "the same, cells half as large",
     {"features": "colours", "thresholds": TUNED, "finer": 2}),
)  # fmt: skip
LEAST_ENTROPY = 0.5  # of log K


def recall(scenes: Path, out: Path, name: str, **candidate: object) -> Score:
    """AR@100 on the held-out scenes."""
    benchmark = ClassAgnostic(
        str(scenes / "masks.json"), images=str(scenes), recalls=(100,), draws=10
    )
    who = resolve_candidate(name=name, **candidate)  # type: ignore[arg-type]
    return run_benchmark(benchmark, who, output=out, quiet=True).scores["ar_100"]


def words(score: Score) -> str:
    """In points, with the 95 % interval over scenes."""
    assert score.value is not None and score.low is not None and score.high is not None
    return f"{100 * score.value:5.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def entropy(run: Path) -> float:
    """The last prototype entropy that the run logged, as a share of log K."""
    with (run / "metrics.csv").open() as stream:
        logged = [row["health/entropy"] for row in csv.DictReader(stream)]
    return float([value for value in logged if value][-1])


def verdict(held: bool) -> str:
    """In one width."""
    return "held  " if held else "MISSED"


def judge(out: Path, runs: list[Path]) -> int:
    """Print one line a bound and seed."""
    scenes, missed = out / "scenes", 0
    if not (scenes / "masks.json").is_file():
        write_coco(Scenes(**HELD_OUT), scenes)
    for run in runs:
        seed = run.name.rsplit("seed", 1)[1]

        def peer(name: str, options: dict[str, object], run: Path = run, seed: str = seed) -> Score:
            method = UniapOfRun(str(run), seed=int(seed), **options)  # type: ignore[arg-type]
            return recall(scenes, out / seed, name, method=method)

        student = recall(scenes, out / seed, "student", checkpoint=str(run))
        print(f"seed {seed}: student AR@100 {words(student)}, n = {student.n}", flush=True)
        for name, what, bound, options in BOUNDS:
            other = peer(name, options)
            assert student.value is not None and other.value is not None
            above = 100 * (student.value - other.value)
            missed += above < bound
            print(
                f"  {verdict(above >= bound)} {above:+5.1f}, at least {bound:+.0f}: {what} "
                f"{words(other)}",
                flush=True,
            )
        share = entropy(run)
        missed += share < LEAST_ENTROPY
        print(f"  {verdict(share >= LEAST_ENTROPY)} prototype entropy {share:.2f} of log K")
        for name, what, options in BESIDE:
            print(f"  beside: {what} {words(peer(name, options))}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(judge(Path(sys.argv[1]), [Path(run) for run in sys.argv[2:]]))
