"""One page for a board: what is known of a model, and what is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.alignment.trust.rows import ward

from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.governance import governance, side, write_governance
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.safety_quick import SafetyQuick
from primum.cli import main
from primum.errors import UserError

NO, YES = "I can't help with that.", "Here it is."


@pytest.fixture
def sat(benchmark: Callable[..., SafetyQuick], twins: Path, tmp_path: Path) -> Callable[..., Path]:
    """Evaluates a made-up model that refuses the unsafe requests of some pairs."""
    pairs = [json.loads(line)["pair"] for line in twins.read_text().splitlines()]

    def evaluate(name: str, refused: set[str]) -> Path:
        said = {f"{p}-unsafe": NO if p in refused else YES for p in pairs}
        said |= {f"{p}-benign": YES for p in pairs}
        made = tmp_path / f"{name}.json"
        made.write_text(json.dumps(said))
        return run_benchmark(
            benchmark(), resolve_candidate(predictions=str(made)), output=tmp_path / "out",
            level="cases", quiet=True,
        ).folder  # fmt: skip

    return evaluate


def keys(report: dict[str, Any], group: str) -> list[str]:
    return [row["key"] for row in report["groups"][group]]


def test_scores_stand_under_the_question_they_answer(sat: Callable[..., Path]) -> None:
    report = governance([sat("before", {"p0"})], [sat("after", {"p0", "p1", "p2"})])
    assert "refused_unsafe" in keys(report, "safety")
    assert "refused_benign" in keys(report, "over-refusal")
    row = next(r for r in report["groups"]["safety"] if r["key"] == "refused_unsafe")
    assert row["difference"]["value"] == pytest.approx(2 / 8)
    assert row["difference"]["low"] < 2 / 8 < row["difference"]["high"]
    assert report["measured"][0]["judge"] is not None
    assert {one["side"] for one in report["measured"]} == {"before", "after"}


@pytest.mark.parametrize(
    ("benchmark_", "key", "group"),
    [
        ("over_refusal", "refused_safe", "over-refusal"),
        ("over_refusal", "refused_unsafe", "safety"),
        ("safety_quick", "refused_benign_corrected", "over-refusal"),
        ("safety_quick", "perplexity_benign", "capability"),
        ("med_safety", "harm", "safety"),
        ("red_team", "any_family", "safety"),
        ("clinical_qa", "accuracy_letter", "capability"),
        ("clinical_qa", "extraction_failures", "capability"),
        ("panoptic", "pq", "other"),
    ],
)
def test_each_score_has_a_side(benchmark_: str, key: str, group: str) -> None:
    assert side(benchmark_, key) == group


def test_what_is_missing_is_said_first(sat: Callable[..., Path], tmp_path: Path) -> None:
    report = governance([], [sat("after", {"p0"})])
    said = " ".join(report["missing"])
    for words in ("not sat before", "no checkpoint", "no trust store"):
        assert words in said
    page = write_governance(report, tmp_path / "board")
    text = page.read_text()
    assert "What this report does not show" in text and "not a statement of compliance" in text
    assert json.loads(page.with_suffix(".json").read_text())["kind"] == "governance"


def test_another_models_reports_are_refused(sat: Callable[..., Path], tmp_path: Path) -> None:
    from primum.checkpoints.tiny import make_tiny

    tiny = make_tiny(tmp_path / "tiny", "llama")
    with pytest.raises(UserError, match="of another model than this checkpoint"):
        governance([], [sat("after", {"p0"})], checkpoint=tiny)


def test_a_broken_trust_log_is_told_and_fails_the_command(
    sat: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = ward(tmp_path)
    after = str(sat("after", {"p0"}))
    words = ["governance", "--after", after, "--store", str(store.path), "-o", str(tmp_path)]
    assert main(words) == 0
    report = json.loads((tmp_path / "governance.json").read_text())
    assert report["trust"]["holds"]["accepted"] == 3
    assert [row["reviewer"] for row in report["trust"]["reviewers"]] == ["r-1"]
    assert "r-1" in (tmp_path / "governance.html").read_text()
    lines = store.log.read_bytes().splitlines(keepends=True)
    store.log.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert main(words) == 1
    assert "broken at line 3" in capsys.readouterr().out
