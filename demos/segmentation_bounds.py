"""Held-out scenes of `segmentation_evidence.sh`, and its verdict: 1 if a bound is missed."""

import csv
import json
import sys
from pathlib import Path

from primum.segmentation.data.scenes import Scenes, write_coco

HELD_OUT = {"size": 200, "seed": 10_000, "side": 96}  # training draws from seed 0
BOUNDS = (  # AR@100 of the student exceeds this by at least so many points
    ("final", "UniAP on the run's own final features", 5.0),
    ("untrained", "UniAP on untrained features", 10.0),
    ("colours", "UniAP on raw Lab colours", 5.0),
)
BESIDE = ("colours_tuned", "colours_fine")  # shown, not bounds
LEAST_ENTROPY = 0.5  # of log K


def recall(folder: Path) -> tuple[float, str]:
    """AR@100 in points, and with its interval in words."""
    report = json.loads(next(folder.rglob("report.json")).read_text())
    score = report["scores"]["ar_100"]
    points = 100 * score["value"]
    return points, f"{points:5.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


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
    missed = 0
    for run in runs:
        seed = run.name.rsplit("seed", 1)[1]
        student, words = recall(out / seed / "student")
        print(f"seed {seed}: student AR@100 {words}")
        for name, what, bound in BOUNDS:
            value, words = recall(out / seed / name)
            above = student - value
            missed += above < bound
            print(
                f"  {verdict(above >= bound)} {above:+5.1f}, at least {bound:+.0f}: {what} {words}"
            )
        for name in BESIDE:
            print(f"  beside {name}: {recall(out / seed / name)[1]}")
        share = entropy(run)
        missed += share < LEAST_ENTROPY
        print(f"  {verdict(share >= LEAST_ENTROPY)} prototype entropy {share:.2f} of log K")
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1] == "scenes":
        if not (Path(sys.argv[2]) / "masks.json").is_file():
            print(write_coco(Scenes(**HELD_OUT), sys.argv[2]))
    else:
        sys.exit(judge(Path(sys.argv[2]), [Path(run) for run in sys.argv[3:]]))
