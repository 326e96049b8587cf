"""One candidate sits one benchmark: from the first case to the report, resumable in between."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning import Trainer

from primum.benchmarks.benchmark import Benchmark
from primum.benchmarks.candidates import Candidate
from primum.benchmarks.cases import sha256_of
from primum.benchmarks.environment import environment
from primum.benchmarks.report import LEVELS, build_report, print_report, write_report
from primum.benchmarks.results import in_order, read_parts, write_parquet
from primum.errors import UserError
from primum.files import atomic_write
from primum.metrics.score import Score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation leaves.

    Attributes:
        scores: By key, as in the report.
        folder: Holds results/*.jsonl, results.parquet, report.json and report.html.
        report: The content of report.json.
    """

    scores: dict[str, Score]
    folder: Path
    report: dict[str, Any]


def run_benchmark(
    benchmark: Benchmark,
    candidate: Candidate,
    trainer: Trainer | None = None,
    *,
    output: str | Path = "outputs/evaluate",
    level: str = "cases",
    config: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    fresh: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Show every case to the candidate, score the rows and write the report.

    The results folder is named after a hash of the model, the benchmark, its settings and cases.
    The same call goes on where an earlier one was interrupted, and only rewrites the report of one
    that was complete. Every rank calls this; rank 0 writes.

    Args:
        benchmark: What is asked, and how answers are judged.
        candidate: Who answers.
        trainer: Places the model and runs the loop; one CPU or GPU if None.
        output: The results lie in `output/<benchmark>/<candidate>/<key>`.
        level: How much the report shows: `summary`, `cases` or `full`.
        config: The resolved configuration, for the report.
        command: The command line, for the report; this process's own if None.
        fresh: Answer every case again.
        quiet: Do not print the scores.

    Raises:
        UserError: The cases, the candidate or an earlier result do not fit.
    """
    if level not in LEVELS:
        raise UserError(f"There is no report.level={level}", remedy=f"use {', '.join(LEVELS)}")
    cases = benchmark.cases
    check = getattr(candidate.subject, "check", None)
    if callable(check):
        check(cases)
    benchmark.candidate = candidate
    identity = benchmark.identity()
    key = sha256_of(identity)
    folder = Path(output) / slug(benchmark.name) / slug(candidate.name) / key[:16]
    parts = folder / "results"
    trainer = trainer or default_trainer(folder)
    benchmark.folder, benchmark.fresh = parts, fresh

    started, clock = datetime.now(UTC), time.perf_counter()
    kept = 0 if fresh else len(set(read_parts(parts)) & {case.id for case in cases})
    if kept:
        log.info("%d of %d cases are already answered in %s", kept, len(cases), folder)
    if kept < len(cases):
        try:
            trainer.test(benchmark, verbose=False)
        except BaseException:
            benchmark.teardown("test")  # Lightning leaves it out; the next try needs the file
            raise
        trainer.strategy.barrier("all cases answered")
    elapsed = time.perf_counter() - clock

    results = in_order(cases, read_parts(parts), parts)
    scores = benchmark.scores(results)
    report = build_report(
        benchmark,
        results,
        scores,
        level=level,
        key=key,
        identity=identity,
        config=dict(config or {}),
        environment=environment(trainer.strategy.root_device),
        timing={
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(elapsed, 2),
            "answering_seconds": round(sum(result.seconds or 0 for result in results), 2),
            "cases_answered": len(cases) - kept,
            "cases_kept": kept,
        },
        command=list(sys.argv if command is None else command),
    )
    if trainer.is_global_zero:
        write_parquet(results, folder / "results.parquet")
        atomic_write(folder / "key.json", json.dumps(identity, indent=2, ensure_ascii=False) + "\n")
        write_report(report, folder)
        if not quiet:
            print_report(report, folder)
    return Evaluation(scores, folder, report)


def default_trainer(folder: Path) -> Trainer:
    """One device, a progress bar, no logger and no checkpoints."""
    return Trainer(
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def slug(name: str) -> str:
    """A name as a folder.

    >>> slug("alignment/quickstart")
    'alignment-quickstart'
    """
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "unnamed"
