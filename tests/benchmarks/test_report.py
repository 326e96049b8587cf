"""The report shows what it should, escapes what it shows, and stays readable for later releases."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from primum.benchmarks.candidates import Candidate, resolve_candidate
from primum.benchmarks.page import report_page
from primum.benchmarks.report import read_report, scores_of
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.safety_quick import SafetyQuick
from primum.errors import UserError
from primum.metrics.score import Score

GOLDEN = Path(__file__).parent / "golden"
ATTACK = """<script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}' " &lt; </pre>"""


class Tags(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


@pytest.fixture
def attacked(benchmark: Callable[..., SafetyQuick], twins: Path, tmp_path: Path) -> dict[str, Any]:
    """A report in which every string that anybody else wrote is an attack."""
    rows = [json.loads(line) for line in twins.read_text().splitlines()]
    for row in rows:
        row |= {"unsafe_request": f"{row['pair']} {ATTACK}", "help": ATTACK}
    data = tmp_path / "attack.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = tmp_path / "made.json"
    made.write_text(
        json.dumps({f"{r['pair']}-{k}": ATTACK for r in rows for k in ("unsafe", "benign")})
    )
    return run_benchmark(
        benchmark(twins=str(data), title=ATTACK),
        resolve_candidate(predictions=str(made), name=ATTACK),
        output=tmp_path / "out",
        level="full",
        config={"note": ATTACK},
        command=["evaluate.py", ATTACK],
        quiet=True,
    ).report


def test_everything_shown_is_escaped(attacked: dict[str, Any]) -> None:
    found = parsed(report_page(attacked))
    assert not found.tags & {"script", "img", "iframe", "object", "link"}
    assert not found.handlers
    assert found.text.count(ATTACK) >= 32  # every answer and every reference, letter for letter


def test_the_page_opens_offline(attacked: dict[str, Any]) -> None:
    page = report_page(attacked)
    assert all(link.startswith("#") for link in parsed(page).links)
    assert "default-src 'none'" in page and "@import" not in page and "url(" not in page


@pytest.mark.parametrize("level", ["summary", "cases", "full"])
def test_the_level_decides_how_much_is_shown(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, tmp_path: Path, level: str
) -> None:
    done = run_benchmark(benchmark(), candidate, output=tmp_path, level=level, quiet=True)
    page = (done.folder / "report.html").read_text()
    report = json.loads((done.folder / "report.json").read_text())
    assert report == done.report
    assert ("Forge note number 3" in page) == (level != "summary")
    assert ("Note 3 says to rest" in page) == (level == "full")
    assert ("cases" in report) == (level != "summary")
    for score in report["scores"].values():
        assert {"value", "low", "high", "n", "protocol"} <= set(score)
    for key in ("command", "config", "hashes", "environment", "timing", "settings", "candidate"):
        assert key in report
    assert report["candidate"]["fingerprint"] in page
    assert report["hashes"]["key"] in page


def test_the_worst_cases_come_first(
    benchmark: Callable[..., SafetyQuick], twins: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in twins.read_text().splitlines()]
    said = {f"{r['pair']}-unsafe": "I can't help with that." for r in rows}
    said |= {f"{r['pair']}-benign": "Rest for a day." for r in rows}
    said |= {"p3-unsafe": "Here is the note.", "p5-benign": "I can't help with that."}
    (tmp_path / "made.json").write_text(json.dumps(said))
    report = run_benchmark(
        benchmark(),
        resolve_candidate(predictions=str(tmp_path / "made.json")),
        output=tmp_path,
        quiet=True,
    ).report
    assert report["worst"] == ["p3-unsafe", "p5-benign"]
    assert report["scores"]["refused_unsafe"]["value"] == 7 / 8
    assert report["scores"]["refused_benign"]["value"] == 1 / 8


def test_the_terminal_shows_scores_and_the_path(
    benchmark: Callable[..., SafetyQuick], candidate: Candidate, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    done = run_benchmark(benchmark(title="Shows the loop"), candidate, output=tmp_path)
    printed = capsys.readouterr().out.replace("\n", "")
    assert "Shows the loop" in printed and str(done.folder / "report.html") in printed


def test_a_report_of_version_1_is_read_and_shown() -> None:
    report = read_report(GOLDEN / "report_v1.json")
    assert scores_of(report)["refused_unsafe"] == Score(
        "refusal of unsafe requests", 0.5, 0.0945, 0.9055, 2, "golden", True, "proportion"
    )
    assert "p1-unsafe" in report_page(report)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "damaged"),
        ("[]", "not a Primum report"),
        ('{"schema_version": 99, "kind": "evaluation"}', "schema_version 99"),
        ('{"schema_version": 1, "kind": "comparison"}', "no report of an evaluation"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match=problem):
        read_report(tmp_path)


def test_a_folder_with_several_reports_must_be_narrowed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text("{}")
    with pytest.raises(UserError, match="2 reports below"):
        read_report(tmp_path)
    with pytest.raises(UserError, match="no report here"):
        read_report(tmp_path / "c")
