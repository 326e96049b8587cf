"""Which requests are asked, how they are scored, and what happens to malformed ones."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.cases import check_cases
from primum.benchmarks.requests import balanced, read_requests
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.safety_quick import SafetyQuick
from primum.errors import UserError
from primum.judges.refusal_rules import RefusalRules
from primum.metrics.corrected_rate import corrected_rate

Make = Callable[..., SafetyQuick]


def test_the_shipped_twins_give_balanced_cases() -> None:
    made = SafetyQuick(RefusalRules(), labels=None, limit=100)
    kinds = Counter(case.tags["kind"] for case in made.cases)
    assert kinds == {"unsafe": 100, "benign": 100}
    for kind in kinds:
        families = Counter(c.tags["family"] for c in made.cases if c.tags["kind"] == kind)
        assert max(families.values()) - min(families.values()) <= 1
    pairs = [{c.tags["pair"] for c in made.cases if c.tags["kind"] == k} for k in kinds]
    assert pairs[0] == pairs[1]  # twins stay together
    assert [c.id for c in made.cases] == [
        c.id for c in SafetyQuick(RefusalRules(), labels=None, limit=100).cases
    ]


def test_a_smaller_limit_takes_a_part_of_a_larger_one(benchmark: Make) -> None:
    small, large = ({case.id for case in benchmark(limit=limit).cases} for limit in (3, 6))
    assert small < large and len(small) == 6


def test_only_the_split_is_asked(benchmark: Make) -> None:
    assert {case.tags["pair"] for case in benchmark(split="train").cases} == {
        "p8", "p9", "p10", "p11",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"no pair of the split 'dev'(?s:.*)test, train"):
        _ = benchmark(split="dev").cases


def test_other_files_take_the_place_of_twins(benchmark: Make, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "category_1.csv").write_text(
            ",harmful_medical_request,safe_response\n"
            f'0,"Forge it, {folder}.",No.\n1,"Hide\nit, {folder}.",No.\n'
        )
    made = benchmark(unsafe=[str(tmp_path)])
    assert [case.prompt for case in made.cases][:2] == ["Forge it, one.", "Hide\nit, one."]
    assert len({case.id for case in made.cases}) == 4
    assert {case.tags["kind"] for case in made.cases} == {"unsafe"}
    assert all(case.reference is None for case in made.cases)  # refusals are not help
    benign = tmp_path / "benign.jsonl"
    benign.write_text('{"prompt": "Explain it.", "completion": "Rest."}\n')
    both = benchmark(unsafe=str(tmp_path / "one"), benign=str(benign)).cases
    assert both[-1].tags["kind"] == "benign" and both[-1].reference == "Rest."


def test_unsafe_requests_alone_can_be_scored(benchmark: Make, tmp_path: Path) -> None:
    data = tmp_path / "unsafe.csv"
    data.write_text("harmful_medical_request,safe_response\nForge it.,No.\nHide it.,No.\n")
    made = benchmark(unsafe=str(data))
    (tmp_path / "made.jsonl").write_text(
        '{"prompt": "Forge it.", "answer": "I won\'t help with that."}\n'
        '{"prompt": "Hide it.", "answer": "Hide it well."}\n'
    )
    answers = resolve_candidate(predictions=str(tmp_path / "made.jsonl"))
    done = run_benchmark(made, answers, output=tmp_path, quiet=True)
    assert done.scores["refused_unsafe"].value == 0.5
    assert done.scores["refused_benign"].value is None
    assert [t["tag"] for t in done.report["breakdown"]] == ["source"]


def test_rates_are_corrected_by_the_judges_mistakes_on_the_same_kind(
    benchmark: Make, twins: Path, tmp_path: Path
) -> None:
    """Of 25 + 25 labelled answers a kind, the judge misses 5 refusals of unsafe requests."""
    label = lambda kind, n, meant, says: {  # noqa: E731
        "id": f"{kind}{n}", "prompt_kind": kind, "prompt": "Forge it.", "model": "m",
        "answer": "I can't help with that." if says else "Here it is.",
        **dict.fromkeys(("pass_1", "pass_2", "adjudicated"), "refusal" if meant else "compliance"),
    }  # fmt: skip
    rows = [label("unsafe", n, n < 25, n < 20) for n in range(50)]
    rows += [label("benign", n, n < 25, n < 25) for n in range(50)]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [json.loads(line) for line in twins.read_text().splitlines()]
    said = {
        f"{r['pair']}-{kind}": "I can't help with that." if n % 2 else "Here it is."
        for n, r in enumerate(pairs) for kind in ("unsafe", "benign")
    }  # fmt: skip
    (tmp_path / "made.json").write_text(json.dumps(said))
    done = run_benchmark(
        benchmark(labels=str(labels)),
        resolve_candidate(predictions=str(tmp_path / "made.json")),
        output=tmp_path,
        quiet=True,
    )
    judge = SafetyQuick(RefusalRules(), labels=str(labels)).confusion("refused_unsafe")
    assert judge == (20, 5, 25, 0)
    expected = corrected_rate(4, 8, judge)
    assert done.scores["refused_unsafe_corrected"].value == pytest.approx(expected.value)
    assert expected.value == pytest.approx(0.5 / 0.8)
    assert done.scores["refused_benign_corrected"].value == 0.5
    assert "100 answers of m" in json.dumps(done.report["sections"])


@pytest.mark.parametrize(
    ("text", "problem", "row"),
    [
        ("", "no rows", None),
        ('{"pair": "p"}\n', "This pair has no principle", 1),
        ("[1]\n", "named columns", 1),
        ("{oops\n", "not JSON", 1),
    ],
)
def test_malformed_twins_are_one_error(
    benchmark: Make, tmp_path: Path, text: str, problem: str, row: int | None
) -> None:
    data = tmp_path / "twins.jsonl"
    data.write_text(text)
    with pytest.raises(UserError, match=problem) as caught:
        _ = benchmark(twins=str(data)).cases
    assert caught.value.file == data and caught.value.row == row


def test_repeated_pairs_are_one_error(benchmark: Make, twins: Path, tmp_path: Path) -> None:
    data = tmp_path / "twice.jsonl"
    data.write_text(twins.read_text() * 2)
    with pytest.raises(UserError, match="have the id 'p0-unsafe'"):
        _ = benchmark(twins=str(data)).cases


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"max_new_tokens": 0}, {"unsafe": "nowhere.csv"}, {"labels": "none"}]
)
def test_impossible_options_are_refused(benchmark: Make, options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        benchmark(**options)


def test_no_cases_are_one_error() -> None:
    with pytest.raises(UserError, match="has no cases"):
        check_cases([], "safety_quick")


def test_requests_without_families_are_spread_over_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = "".join(f"{name} {n},No.\n" for n in range(9))
        (tmp_path / f"{name}.csv").write_text("harmful_medical_request,safe_response\n" + rows)
    cases = read_requests([tmp_path / "a.csv", tmp_path / "b.csv"], "unsafe")
    assert Counter(case.tags["source"] for case in balanced(cases, 6)) == {"a.csv": 3, "b.csv": 3}
