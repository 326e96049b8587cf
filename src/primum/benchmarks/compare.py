"""Before and after, prompt by prompt: what changed, how surely, and on which answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primum.benchmarks.report import interval, number, read_report, scores_of
from primum.benchmarks.results import read_parquet
from primum.errors import UserError
from primum.files import atomic_write
from primum.metrics.corrected_rate import Confusion, corrected_rate
from primum.metrics.paired_difference import mcnemar_exact, paired_difference
from primum.metrics.perplexity import corpus_perplexity, perplexity_ratio
from primum.metrics.proportion import proportion
from primum.metrics.score import Score

SCHEMA_VERSION = 1
CLUSTERS = ("family", "pair")  # tags within which prompts rise and fall together, widest first


@dataclass(frozen=True)
class Run:
    """One evaluation: its report and its rows by case id."""

    report: dict[str, Any]
    rows: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """From a report.json of any level, or a results folder.

        Raises:
            UserError: There is none, or it has no rows.
        """
        report = read_report(path)
        cases = report.get("cases")
        if cases is None:
            parquet = Path(report["file"]).with_name("results.parquet")
            if not parquet.is_file():
                raise UserError(
                    "This report is a summary and results.parquet is not beside it, so nothing can "
                    "be paired",
                    file=report["file"],
                    remedy="evaluate again with report.level=cases, or give the results folder",
                )
            cases = [vars(result) | {"prompt": result.case} for result in read_parquet(parquet)]
        return cls(report, {row["case"]: row for row in cases})

    @property
    def name(self) -> str:
        return self.report["candidate"]["name"]


def compare(before: Sequence[str | Path], after: Sequence[str | Path]) -> dict[str, Any]:
    """Compare one or several runs (seeds) of a side with those of the other.

    Returns:
        What compare.json holds: warnings, one row a score with before, after and difference, and
        every prompt with the answers of both sides.

    Raises:
        UserError: The reports are of different benchmarks, or share no case.
    """
    first, second = [Run.read(path) for path in before], [Run.read(path) for path in after]
    runs = [*first, *second]
    if not first or not second:
        raise UserError("A comparison needs a report before and a report after")
    names = {run.report["benchmark"]["name"] for run in runs}
    if len(names) > 1:
        raise UserError(f"These reports are of different benchmarks: {', '.join(sorted(names))}")
    shared = [case for case in first[0].rows if all(case in run.rows for run in runs)]
    hashes = [{case: run.rows[case]["prompt_sha256"] for case in shared} for run in runs]
    cases = [case for case in shared if len({one[case] for one in hashes}) == 1]
    if not cases:
        raise UserError(
            "These reports share no prompt, so nothing can be paired",
            file=second[0].report["file"],
            remedy="evaluate both models on the same data, split and limit",
        )
    comparison: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "comparison",
        "title": first[0].report["title"],
        "benchmark": first[0].report["benchmark"]["name"],
        "cases": len(cases),
        "before": [side(run) for run in first],
        "after": [side(run) for run in second],
        "warnings": warnings(first, second, len(cases)),
        "scores": score_rows(first, second, cases),
        "answers": [answer_row(first[0], second[0], case) for case in cases],
    }
    order = {"worse": 0, "better": 1, "changed": 2, "same": 3}
    comparison["answers"].sort(key=lambda row: order[row["change"]])
    return json.loads(json.dumps(comparison, ensure_ascii=False, default=str))


def side(run: Run) -> dict[str, Any]:
    """Who a run was of, and where its report lies."""
    candidate = run.report["candidate"]
    return {
        "name": candidate["name"],
        "kind": candidate["kind"],
        "fingerprint": candidate["fingerprint"],
        "report": run.report["file"],
        "device": run.report["environment"]["device"],
        "settings": run.report["settings"],
    }


def warnings(first: Sequence[Run], second: Sequence[Run], paired: int) -> list[str]:
    """What besides the model differs between the runs."""
    runs = [*first, *second]

    def differing(what: str, value: Any) -> list[str]:
        found = [json.dumps(value(run.report), sort_keys=True) for run in runs]
        unique = list(dict.fromkeys(found))
        return [f"{what} differs: {', '.join(unique)}"] if len(unique) > 1 else []

    said = []
    for name in ("max_new_tokens", "temperature", "batch_size", "seed"):
        said += differing(name, lambda report, name=name: report["settings"].get(name))
    said += differing("dtype", lambda report: report["candidate"]["facts"].get("dtype"))
    said += differing("judge", lambda report: report["benchmark"]["facts"].get("judge"))
    said += differing("the judge's confusion", lambda report: report.get("confusions") or {})
    said += differing("benchmark version", lambda report: report["benchmark"]["version"])
    said += differing("device", lambda report: report["environment"]["device"])
    for package in ("torch", "transformers"):
        said += differing(
            f"{package} version",
            lambda report, package=package: report["environment"]["versions"].get(package),
        )
    most = max(len(run.rows) for run in runs)
    if paired < most:
        said.append(
            f"only {paired} of up to {most} prompts are the same in all runs; others left out"
        )
    fingerprints = [run.report["candidate"]["fingerprint"] for run in runs]
    if len(set(fingerprints)) < len(fingerprints):
        said.append("two of the runs are of the same model")
    return said


def score_rows(
    first: Sequence[Run], second: Sequence[Run], cases: Sequence[str]
) -> list[dict[str, Any]]:
    """One row a score that all runs have, each side on the shared prompts alone."""
    rows = []
    for key, score in scores_of(first[0].report).items():
        scores = [scores_of(run.report).get(key) for run in (*first, *second)]
        if any(one is None or one.value is None for one in scores):
            continue
        if key.startswith("perplexity"):
            found = perplexity_row(first, second, cases, score)
        else:
            found = rate_row(first, second, cases, key, score)
        if found is not None:
            head = {"key": key, "name": score.name, "unit": score.unit}
            rows.append(head | {"higher_is_better": score.higher_is_better} | found)
    return rows


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """The mean over a side's runs; one run keeps its interval."""
    values = [score.value or 0.0 for score in scores]
    low, high = (scores[0].low, scores[0].high) if len(scores) == 1 else (None, None)
    return {"value": sum(values) / len(values), "runs": values, "low": low, "high": high}


def rate_row(
    first: Sequence[Run], second: Sequence[Run], cases: Sequence[str], key: str, score: Score
) -> dict[str, Any] | None:
    """The change of one rate, with McNemar's test of each pair of runs; None if no such rate."""
    runs = [*first, *second]
    field = key.removesuffix("_corrected")
    own = [c for c in cases if all(isinstance(r.rows[c]["scores"].get(field), bool) for r in runs)]
    if not own:
        return None
    before, after = (
        [[run.rows[case]["scores"][field] for case in own] for run in group]
        for group in (first, second)
    )
    tag, clusters = clusters_of(first[0], own)
    confusion = None
    if key != field:
        counts = [run.report.get("confusions", {}).get(field) for run in runs]
        if any(one is None or one != counts[0] for one in counts):
            return None  # warned of: the two sides are corrected for different mistakes
        confusion = Confusion(**counts[0])

    def rate(hits: Sequence[bool]) -> Score:
        if confusion is not None:
            return corrected_rate(sum(hits), len(hits), confusion)
        return proportion(sum(hits), len(hits))

    row: dict[str, Any] = {
        "before": summary([rate(hits) for hits in before]),
        "after": summary([rate(hits) for hits in after]),
        "difference": paired_difference(
            before,
            after,
            clusters,
            f"{score.name}: rise",
            confusion=confusion,
            higher_is_better=score.higher_is_better,
            protocol=f"clusters are {tag}",
        )._asdict(),
        "mcnemar": [],
    }
    for seed, hits in enumerate(after if confusion is None else []):
        base = before[min(seed, len(before) - 1)]
        gained = sum(b < a for b, a in zip(base, hits, strict=True))
        lost = sum(b > a for b, a in zip(base, hits, strict=True))
        test = {"gained": gained, "lost": lost, "p": mcnemar_exact(gained, lost)}
        row["mcnemar"].append(test)
    return row


def perplexity_row(
    first: Sequence[Run], second: Sequence[Run], cases: Sequence[str], score: Score
) -> dict[str, Any] | None:
    """After over before; None where the sides counted different tokens."""
    runs = [*first, *second]
    own = [c for c in cases if all(r.rows[c]["scores"].get("num_tokens") for r in runs)]
    tokens = [[run.rows[c]["scores"]["num_tokens"] for c in own] for run in runs]
    if not own or any(one != tokens[0] for one in tokens):
        return None  # another tokenizer: perplexities per token are of different things
    before, after = (
        [[run.rows[case]["scores"]["sum_logprob"] for case in own] for run in group]
        for group in (first, second)
    )
    clusters = clusters_of(first[0], own)[1]
    return {
        "before": summary([corpus_perplexity(one, tokens[0]) for one in before]),
        "after": summary([corpus_perplexity(one, tokens[0]) for one in after]),
        "difference": perplexity_ratio(before, after, tokens[0], clusters)._asdict(),
    }


def clusters_of(run: Run, cases: Sequence[str]) -> tuple[str, list[str]]:
    """The widest tag that every case has and that makes more than one cluster."""
    for tag in CLUSTERS:
        labels = [run.rows[case]["tags"].get(tag) for case in cases]
        if all(labels) and len(set(labels)) > 1:
            return f"a {tag} each", [str(label) for label in labels]
    return "single prompts", list(cases)


def answer_row(before: Run, after: Run, case: str) -> dict[str, Any]:
    """One prompt with both answers, and whether the change is for the better."""
    first, second = before.rows[case], after.rows[case]
    good = [row.get("good") for row in (first, second)]
    if good[0] is not None and good[0] != good[1]:
        change = "better" if good[1] else "worse"
    else:
        labels = [[v["label"] for v in row["verdicts"].values()] for row in (first, second)]
        change = "same" if labels[0] == labels[1] else "changed"
    keys = ("answer", "verdicts", "good")
    return {
        "case": case,
        "prompt": first["prompt"],
        "tags": first["tags"],
        "change": change,
        "before": {key: first.get(key) for key in keys},
        "after": {key: second.get(key) for key in keys},
    }


def write_comparison(comparison: Mapping[str, Any], output: str | Path) -> Path:
    """Write the page, and the same figures as JSON beside it.

    Args:
        output: An .html file, or a folder for compare.html.
    """
    from primum.benchmarks.page import comparison_page

    output = Path(output).expanduser()
    page = output if output.suffix == ".html" else output / "compare.html"
    text = json.dumps(comparison, indent=2, ensure_ascii=False) + "\n"
    atomic_write(page.with_suffix(".json"), text)
    atomic_write(page, comparison_page(comparison))
    return page


def print_comparison(comparison: Mapping[str, Any], page: Path) -> None:
    """The before/after table on the terminal, and where the page lies."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    table = Table(title=comparison["title"], title_justify="left", title_style="bold")
    table.add_column("score")
    for column in ("before", "after", "change", "95 % interval"):
        table.add_column(column, justify="right")
    for row in comparison["scores"]:
        direction = {True: " ↑", False: " ↓", None: ""}[row["higher_is_better"]]
        change = Score.from_dict(row["difference"])
        table.add_row(
            row["name"] + direction,
            number(row["before"]["value"], row["unit"]),
            number(row["after"]["value"], row["unit"]),
            "-"
            if not change
            else ("x " if change.unit == "ratio" else "") + number(change.value, change.unit),
            "-" if not change else interval(change),
        )
    console.print()
    console.print(table)
    for row in comparison["scores"]:
        for test in row.get("mcnemar", []):
            console.print(
                f"{row['name']}: {test['gained']} prompts gained it, {test['lost']} lost it, "
                f"McNemar p = {test['p']:.2g}",
                markup=False,
                highlight=False,
            )
    for warning in comparison["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    console.print(f"report: {page}", markup=False, highlight=False)
