"""Killed, restarted or shared between processes: each case counts once and the scores agree."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from primum.benchmarks.candidates import Candidate
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.safety_quick import SafetyQuick
from primum.errors import UserError

SITTING = Path(__file__).with_name("sitting.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def sit(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SITTING), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)


def report_in(folder: Path) -> dict[str, Any]:
    (file,) = folder.rglob("report.json")
    return json.loads(file.read_text())


def lines_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for part in folder.rglob("part-*.jsonl") for line in part.open("rb")]


def counted(report: dict[str, Any]) -> tuple[Any, ...]:
    """Everything of a report that does not tell the time."""
    return report["scores"], report["cases"], report["breakdown"], report["hashes"]


@pytest.fixture
def whole(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, tmp_path: Path
) -> dict[str, Any]:
    """The report of an uninterrupted run in one process."""
    return run_benchmark(benchmark(), candidate, output=tmp_path / "whole", quiet=True).report


def test_every_case_leaves_one_row(whole: dict[str, Any], tmp_path: Path) -> None:
    rows = lines_in(tmp_path / "whole")
    assert len(rows) == whole["benchmark"]["cases"] == 16
    assert {row["case"] for row in rows} == {case["case"] for case in whole["cases"]}
    assert whole["scores"]["refused_unsafe"]["n"] == 8
    assert whole["scores"]["perplexity_benign"]["n"] == 8
    assert all(row["seconds"] > 0 for row in rows)


def test_a_finished_run_answers_nothing_again(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, whole: dict[str, Any],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(candidate.subject, "answer", None)  # would fail if it were called
    again = run_benchmark(benchmark(), candidate, output=tmp_path / "whole", quiet=True)
    assert counted(again.report) == counted(whole)
    assert again.report["timing"]["cases_kept"] == 16


def test_fresh_answers_all_again(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, whole: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    again = run_benchmark(benchmark(), candidate, output=tmp_path / "whole", fresh=True, quiet=True)
    assert again.report["timing"]["cases_answered"] == 16
    assert len(lines_in(tmp_path / "whole")) == 16
    assert counted(again.report) == counted(whole)


def test_half_a_batch_is_answered_in_the_batch_it_belongs_to(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, whole: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    (part,) = (tmp_path / "whole").rglob("part-*.jsonl")
    kept = part.read_bytes().splitlines(keepends=True)[:7]  # two batches and a third of the next
    part.write_bytes(b"".join(kept) + b'{"schema_ver')
    again = run_benchmark(benchmark(), candidate, output=tmp_path / "whole", quiet=True)
    assert counted(again.report) == counted(whole)
    assert again.report["timing"]["cases_kept"] == 7
    assert len(lines_in(tmp_path / "whole")) == 16


@pytest.mark.parametrize(
    "change", [{"max_new_tokens": 9}, {"limit": 5}, {"split": "train"}, {"temperature": 0.5}]
)
def test_other_settings_or_cases_have_another_key(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, change: dict[str, Any]
) -> None:
    keys = []
    for options in ({}, change):
        made = benchmark(**options)
        made.candidate = candidate
        keys.append(made.identity())
    assert keys[0] != keys[1]


def test_an_unknown_level_is_refused_before_any_answer(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="summary, cases, full"):
        run_benchmark(benchmark(), candidate, output=tmp_path, level="all")
    assert not list(tmp_path.iterdir())


@pytest.mark.process
@pytest.mark.parametrize(("first", "then"), [(1, 1), (2, 1)])
def test_a_killed_run_goes_on_to_the_same_scores(
    tiny: Path, twins: Path, whole: dict[str, Any], tmp_path: Path, first: int, then: int
) -> None:
    running = sit(tiny, twins, tmp_path / "killed", first, 1.0)
    patience = time.monotonic() + 500
    while len(list((tmp_path / "killed").rglob("part-*.jsonl"))) < first or not all(
        part.stat().st_size for part in (tmp_path / "killed").rglob("part-*.jsonl")
    ):
        assert running.poll() is None and time.monotonic() < patience
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)  # no handler can tidy up
    running.wait()
    before = lines_in(tmp_path / "killed")
    assert 0 < len(before) < 16
    assert not list((tmp_path / "killed").rglob("report.json"))

    assert sit(tiny, twins, tmp_path / "killed", then).wait(timeout=500) == 0
    report = report_in(tmp_path / "killed")
    assert report["timing"]["cases_kept"] == len(before)
    assert counted(report) == counted(whole)
    assert len(lines_in(tmp_path / "killed")) == 16


@pytest.mark.process
def test_two_processes_count_each_case_once(
    tiny: Path, twins: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    assert sit(tiny, twins, tmp_path / "two", 2).wait(timeout=500) == 0
    parts = sorted((tmp_path / "two").rglob("part-*.jsonl"))
    assert [part.name for part in parts] == ["part-00000.jsonl", "part-00001.jsonl"]
    assert all(part.stat().st_size for part in parts)
    assert sorted(row["case"] for row in lines_in(tmp_path / "two")) == sorted(
        case["case"] for case in whole["cases"]
    )
    assert counted(report_in(tmp_path / "two")) == counted(whole)
