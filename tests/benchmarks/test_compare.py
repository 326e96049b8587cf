"""Before and after on the same prompts, and what else differs."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from primum.benchmarks import commands
from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.compare import compare
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.safety_quick import SafetyQuick
from primum.errors import UserError

NO, YES = "I can't help with that.", "Here it is."


@pytest.fixture
def sat(benchmark: Callable[..., SafetyQuick], twins: Path, tmp_path: Path) -> Callable[..., Path]:
    """Evaluates a made-up model that refuses the unsafe requests of some pairs."""
    pairs = [json.loads(line)["pair"] for line in twins.read_text().splitlines()]

    def evaluate(name: str, refused: set[str], level: str = "cases", **options: Any) -> Path:
        said = {f"{p}-unsafe": NO if p in refused else YES for p in pairs}
        said |= {f"{p}-benign": YES for p in pairs}
        made = tmp_path / f"{name}.json"
        made.write_text(json.dumps(said))
        return run_benchmark(
            benchmark(**options), resolve_candidate(predictions=str(made)),
            output=tmp_path / "out", level=level, quiet=True,
        ).folder  # fmt: skip

    return evaluate


def row(comparison: dict[str, Any], key: str) -> dict[str, Any]:
    return next(row for row in comparison["scores"] if row["key"] == key)


def test_a_change_is_paired_by_prompt(sat: Callable[..., Path]) -> None:
    before, after = sat("before", {"p0"}), sat("after", {"p1", "p2", "p3", "p4", "p5"})
    comparison = compare([before], [after])
    unsafe = row(comparison, "refused_unsafe")
    assert unsafe["before"]["value"] == 1 / 8 and unsafe["after"]["value"] == 5 / 8
    assert unsafe["difference"]["value"] == 4 / 8
    assert unsafe["difference"]["low"] < 0.5 < unsafe["difference"]["high"]
    assert "4 clusters" in unsafe["difference"]["protocol"]
    assert unsafe["mcnemar"] == [{"gained": 5, "lost": 1, "p": pytest.approx(0.21875)}]
    assert [a["case"] for a in comparison["answers"] if a["change"] == "worse"] == ["p0-unsafe"]
    assert row(comparison, "refused_benign")["difference"]["value"] == 0
    assert comparison["warnings"] == []


def test_several_seeds_are_averaged(sat: Callable[..., Path]) -> None:
    after = [sat("a", {"p1"}), sat("b", {"p1", "p2", "p3"})]
    unsafe = row(compare([sat("before", set())], after), "refused_unsafe")
    assert unsafe["after"]["runs"] == [1 / 8, 3 / 8]
    assert unsafe["difference"]["value"] == pytest.approx(2 / 8)
    assert [test["gained"] for test in unsafe["mcnemar"]] == [1, 3]


def test_other_settings_are_warned_of(sat: Callable[..., Path]) -> None:
    before, after = sat("before", set()), sat("after", {"p1"}, max_new_tokens=9, limit=4)
    said = " ".join(compare([before], [after])["warnings"])
    assert "max_new_tokens differs: 8, 9" in said
    assert "only 8 of up to 16 prompts" in said
    assert "same model" in " ".join(compare([before], [before])["warnings"])


def test_a_summary_is_paired_by_its_rows(sat: Callable[..., Path]) -> None:
    before, after = sat("before", set(), "summary"), sat("after", {"p1", "p2"}, "summary")
    assert row(compare([before], [after]), "refused_unsafe")["difference"]["value"] == 2 / 8
    (after / "results.parquet").unlink()
    with pytest.raises(UserError, match="summary"):
        compare([before], [after])


def test_runs_without_a_common_prompt_are_refused(sat: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="share no prompt"):
        compare([sat("before", set())], [sat("after", set(), split="train")])


def test_the_command_writes_page_and_figures(
    sat: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())
    before, after = sat("before", set()), sat("<b>after", {"p1", "p2", "p3"})
    chosen = parser.parse_args(["compare", str(before), str(after), "-o", str(tmp_path / "c")])
    assert chosen.run(chosen) == 0
    page, figures = tmp_path / "c" / "compare.html", tmp_path / "c" / "compare.json"
    assert f"report: {page}" in capsys.readouterr().out.replace("\n", "")
    assert json.loads(figures.read_text())["cases"] == 16
    assert "&lt;b&gt;after" in page.read_text() and "<b>after" not in page.read_text()
