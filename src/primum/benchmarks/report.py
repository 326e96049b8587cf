"""The report a sceptic reads: report.json for machines, report.html for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.benchmarks.results import Result
from primum.errors import UserError
from primum.files import atomic_write
from primum.metrics.score import Score

if TYPE_CHECKING:
    from primum.benchmarks.benchmark import Benchmark

SCHEMA_VERSION = 1
LEVELS = ("summary", "cases", "full")
WORST = 12  # cases shown first; the rest follow in order


def build_report(
    benchmark: Benchmark,
    results: Sequence[Result],
    scores: Mapping[str, Score],
    *,
    level: str,
    key: str,
    identity: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    timing: Mapping[str, Any],
    command: Sequence[str],
) -> dict[str, Any]:
    """Everything the report says, as JSON can hold it."""
    from primum.benchmarks.benchmark import breakdown_table

    candidate = benchmark.candidate
    assert candidate is not None
    columns = ("value", "hits", "n", "low", "high")
    worst = sorted(
        (result for result in results if benchmark.badness(result) > 0),
        key=lambda result: (-benchmark.badness(result), result.case),
    )
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "evaluation",
        "title": benchmark.title,
        "benchmark": {
            "name": benchmark.name,
            "version": benchmark.version,
            "cases": len(results),
            "facts": benchmark.facts(),
        },
        "candidate": {
            "name": candidate.name,
            "kind": candidate.kind,
            "fingerprint": candidate.fingerprint,
            "facts": candidate.facts,
        },
        "settings": identity["settings"],
        "scores": {name: score._asdict() for name, score in scores.items()},
        "breakdown": [
            {
                "tag": tag,
                "score": score,
                "label": benchmark.labels.get(score, score),
                "higher_is_better": benchmark.directions.get(score),
                "rows": [dict(zip(columns, row, strict=True)) for row in rows],
            }
            for tag in benchmark.breakdown
            for score in benchmark.directions
            if (rows := breakdown_table(results, tag, score))
        ],
        "confusions": {
            score: counts._asdict()
            for score in benchmark.directions
            if (counts := benchmark.confusion(score)) is not None
        },
        "sections": benchmark.sections(results),
        "finish": count(result.finish or "unknown" for result in results),
        "timing": dict(timing),
        "environment": dict(environment),
        "command": list(command),
        "config": dict(config),
        "hashes": {"key": key, "cases": identity["cases"], "candidate": candidate.fingerprint},
        "level": level,
    }
    if level != "summary":
        cases = {case.id: case for case in benchmark.cases}
        report["worst"] = [result.case for result in worst[:WORST]]
        report["cases"] = []
        for result in results:
            case = cases[result.case]
            row: dict[str, Any] = {
                "case": result.case,
                "prompt": case.prompt,
                "prompt_sha256": result.prompt_sha256,
                "answer": result.answer,
                "finish": result.finish,
                "verdicts": result.verdicts,
                "scores": result.scores,
                "tags": result.tags,
                "good": benchmark.badness(result) == 0,
            }
            if level == "full":
                row |= {
                    "messages": [dict(message) for message in case.messages],
                    "reference": case.reference,
                    "seconds": result.seconds,
                    "tokens": result.tokens,
                }
            report["cases"].append(row)
    # through JSON once, so that what was just made equals what will be read back
    return json.loads(json.dumps(report, ensure_ascii=False, default=str))


def count(values: Any) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """report.json, then report.html; each appears whole or not at all."""
    from primum.benchmarks.page import report_page

    atomic_write(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    atomic_write(folder / "report.html", report_page(report))


def read_report(path: str | Path) -> dict[str, Any]:
    """Read report.json, or the only one in or below a folder, of this or an earlier schema.

    Raises:
        UserError: It is not there, not a report, or of a later release.
    """
    path = Path(path).expanduser()
    file = path
    if path.is_dir() and not (file := path / "report.json").is_file():
        below = sorted(path.rglob("report.json"))
        if len(below) > 1:
            raise UserError(
                f"There are {len(below)} reports below this folder, the first in {below[0].parent}",
                file=path,
                remedy="name one of them",
            )
        file = below[0] if below else file
    if not file.is_file():
        raise UserError(
            "There is no report here",
            file=file,
            remedy="give a report.json, or the results folder that evaluate.py printed",
        )
    try:
        report = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"This report is damaged: {error}", file=file) from None
    if not isinstance(report, dict) or not isinstance(report.get("schema_version"), int):
        raise UserError("This file is not a Primum report", file=file)
    if report.get("kind") != "evaluation":
        raise UserError(f"This is no report of an evaluation but a {report.get('kind')}", file=file)
    if report["schema_version"] > SCHEMA_VERSION:
        raise UserError(
            f"This report has schema_version {report['schema_version']}; this release reads up to "
            f"{SCHEMA_VERSION}",
            file=file,
            remedy="pip install --upgrade primum",
        )
    return report | {"file": str(file)}


def scores_of(report: Mapping[str, Any]) -> dict[str, Score]:
    """The scores of a report that was read."""
    return {name: Score.from_dict(fields) for name, fields in report["scores"].items()}


def print_report(report: Mapping[str, Any], folder: Path) -> None:
    """The scores on the terminal, and where the report lies."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    table = Table(title=report["title"], title_justify="left", title_style="bold")
    table.add_column("score")
    table.add_column("", justify="center")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("n", justify="right")
    for score in scores_of(report).values():
        table.add_row(*table_cells(score))
    candidate = report["candidate"]
    console.print()
    console.print(table)
    missing = (score.protocol for score in scores_of(report).values() if score.value is None)
    for reason in dict.fromkeys(missing):
        console.print(f"- {reason}", markup=False, highlight=False)
    console.print(
        f"{candidate['name']} ({candidate['kind']}, {candidate['fingerprint'][:12]}) on "
        f"{report['environment']['device']}, {report['timing']['seconds']:.0f} s",
        markup=False,
        highlight=False,
    )
    console.print(f"report: {folder / 'report.html'}", markup=False, highlight=False)


def table_cells(score: Score) -> tuple[str, str, str, str, str]:
    """Name, direction, value, interval and n of a score, as text."""
    arrow = {True: "↑", False: "↓", None: ""}[score.higher_is_better]
    if score.value is None:
        return score.name, arrow, "-", "", ""
    return score.name, arrow, number(score.value, score.unit), interval(score), str(score.n)


def number(value: float | None, unit: str = "") -> str:
    """A figure as a reader wants it.

    >>> number(0.514, "proportion"), number(-0.2, "points"), number(13.46, "ratio")
    ('51.4 %', '-20.0 points', '13.5')
    """
    if value is None:
        return "-"
    if unit == "proportion":
        return f"{100 * value:.1f} %"
    if unit == "points":
        return f"{100 * value:+.1f} points"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(score: Score) -> str:
    """The interval of a score, in the unit of its value."""
    if score.low is None or score.high is None:
        return "-"
    if score.unit in ("proportion", "points"):
        sign = "+" if score.unit == "points" else ""
        return f"{100 * score.low:{sign}.1f} to {100 * score.high:{sign}.1f}"
    return f"{number(score.low, score.unit)} to {number(score.high, score.unit)}"
