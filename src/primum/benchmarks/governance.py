"""One report for a board: safety, over-refusal and capability, before and after, with evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from primum.benchmarks.compare import Run, compare, summary
from primum.benchmarks.report import scores_of
from primum.checkpoints.resolve import resolve
from primum.errors import UserError
from primum.files import atomic_write

SCHEMA_VERSION = 1
SIDES = ("safety", "over-refusal", "capability", "other")
NEEDLESS = ("refused_benign", "refused_safe")  # a refusal of these is the mistake
ABLE = ("accuracy", "macro", "perplexity", "clinical_qa", "expert_study")
UNSAFE = ("refused_", "harm", "red_team", "med_safety")


def side(benchmark: str, key: str) -> str:
    """Which question a score answers, by its key or else by its benchmark.

    >>> side("over_refusal", "refused_safe"), side("safety_quick", "perplexity_benign")
    ('over-refusal', 'capability')
    """
    for name, beginnings in (("over-refusal", NEEDLESS), ("capability", ABLE), ("safety", UNSAFE)):
        if key.startswith(beginnings) or benchmark.startswith(beginnings):
            return name
    return "other"


def governance(
    before: Sequence[str | Path],
    after: Sequence[str | Path],
    checkpoint: str | Path | None = None,
    store: str | Path | None = None,
    roots: Sequence[str | Path] = (),
    seals: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Gather what is known of a model that learned, and say what is missing.

    Args:
        before, after: Reports of any benchmarks; those of one benchmark are compared, several of a
            side as its seeds.
        checkpoint: The model after: its run, manifest or directory. It must be the one measured.
        store: The trust store its rows are of.
        roots: Where to look for runs, beside the checkpoint's.
        seals: Seals of the store that were kept elsewhere.

    Raises:
        UserError: A report or the checkpoint cannot be read, or the reports are of another model.
    """
    sides = [_by_benchmark(paths) for paths in (before, after)]
    if not sides[1]:
        raise UserError("A governance report needs at least one report of the model")
    missing: list[str] = []
    warnings: list[str] = []
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    measured = []
    for benchmark, runs in sides[1].items():
        first = sides[0].get(benchmark, [])
        if not first:
            missing.append(f"{benchmark} was not sat before training, so no change can be told")
        rows, said = _rows(benchmark, first, runs)
        warnings += [f"{benchmark}: {one}" for one in said]
        for row in rows:
            groups[side(benchmark, row["key"])].append(row)
        measured += [_measured(name, run) for name, side_ in (("before", first), ("after", runs))
                     for run in side_]  # fmt: skip
    missing += [f"no benchmark speaks of {name}" for name in SIDES[:3] if not groups[name]]
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "governance",
        "title": "Safety, over-refusal and capability",
        "groups": groups,
        "measured": measured,
        "model": _model(checkpoint, sides[1], missing),
        "trust": _trust(checkpoint, store, roots, seals, missing),
        "warnings": warnings,
        "missing": missing,
    }
    if report["model"] is not None:
        report["title"] = report["model"]["card"].get("title") or report["model"]["name"]
    return json.loads(json.dumps(report, ensure_ascii=False, default=str))


def _by_benchmark(paths: Sequence[str | Path]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for path in paths:
        run = Run.read(path)
        found.setdefault(run.report["benchmark"]["name"], []).append(run)
    return found


def _rows(
    benchmark: str, before: Sequence[Run], after: Sequence[Run]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Every score of a benchmark; with its paired change where prompts can be paired."""
    paired: dict[str, Any] = {}
    said: list[str] = []
    if before:
        files = [[run.report["file"] for run in runs] for runs in (before, after)]
        comparison = compare(*files)
        paired = {row["key"]: row for row in comparison["scores"]}
        said = comparison["warnings"]
    rows = []
    for key, score in scores_of(after[0].report).items():
        head: dict[str, Any] = {"benchmark": benchmark, "key": key, "name": score.name}
        head |= {"unit": score.unit, "n": score.n, "protocol": score.protocol}
        head["higher_is_better"] = score.higher_is_better
        row = paired.get(key) or {
            "before": _mean(before, key),
            "after": _mean(after, key),
            "difference": None,
        }
        kept = ("before", "after", "difference", "mcnemar")
        rows.append(head | {name: row.get(name) for name in kept})
    return rows, said


def _mean(runs: Sequence[Run], key: str) -> dict[str, Any] | None:
    scores = [scores_of(run.report).get(key) for run in runs]
    given = [score for score in scores if score is not None and score.value is not None]
    return summary(given) if given else None


def _measured(name: str, run: Run) -> dict[str, Any]:
    """How a figure came about: what a reader needs to doubt it properly."""
    report = run.report
    candidate, facts = report["candidate"], report["candidate"]["facts"]
    settings = report["settings"]
    return {
        "side": name,
        "benchmark": f"{report['benchmark']['name']} {report['benchmark']['version']}",
        "model": candidate["name"],
        "fingerprint": candidate["fingerprint"],
        "template": facts.get("template_sha256") or facts.get("template"),
        "system prompt": settings.get("system") or facts.get("system") or "none",
        "sampling": {n: settings[n] for n in ("temperature", "max_new_tokens", "seed")
                     if n in settings},
        "precision": facts.get("dtype"),
        "judge": report["benchmark"]["facts"].get("judge"),
        "device": report["environment"]["device"],
        "cases": report["benchmark"]["cases"],
        "report": report["file"],
    }  # fmt: skip


def _model(
    checkpoint: str | Path | None, after: Mapping[str, Sequence[Run]], missing: list[str]
) -> dict[str, Any] | None:
    if checkpoint is None:
        missing.append("no checkpoint was given: no manifest, hashes or model card")
        return None
    found = resolve(str(checkpoint))
    measured = {run.report["candidate"]["fingerprint"] for runs in after.values() for run in runs}
    if found.fingerprint not in measured:
        raise UserError(
            "The reports after training are of another model than this checkpoint: "
            f"{found.fingerprint[:12]} against {', '.join(sorted(one[:12] for one in measured))}",
            file=checkpoint,
            remedy="evaluate this checkpoint, or name the one that was",
        )
    if len(measured) > 1:
        missing.append("seeds beside this checkpoint were measured too; its figures are their mean")
    if found.manifest is None:
        missing.append("the checkpoint has no manifest: nothing says how it was made")
        return {"name": found.name, "fingerprint": found.fingerprint, "card": {}}
    manifest = asdict(found.manifest)
    missing += [
        f"the model card says nothing of its {name.replace('_', ' ')}"
        for name in ("licence", "data", "intended_use", "not_for")
        if not manifest["card"].get(name)
    ]
    return manifest | {"fingerprint": found.fingerprint}


def _trust(
    checkpoint: str | Path | None,
    store: str | Path | None,
    roots: Sequence[str | Path],
    seals: Sequence[str | Path],
    missing: list[str],
) -> dict[str, Any] | None:
    """What the trust log says of the rows this model learned from."""
    if store is None:
        missing.append("no trust store was given: nothing says who reviewed the training rows")
        return None
    from primum.alignment.trust.lineage import lineage_of, unwanted
    from primum.alignment.trust.records import records
    from primum.alignment.trust.reviewers import summary as held
    from primum.alignment.trust.reviewers import who_reviewed
    from primum.alignment.trust.store import Store
    from primum.alignment.trust.verify import verify

    verdict = verify(store, seals)
    told = {**asdict(verdict), "said": str(verdict)}
    if not verdict.whole:
        missing.append(f"the trust log is {verdict}")
        return {"verdict": told, "holds": None, "lineage": None, "reviewers": []}
    if not seals:
        missing.append("no seal kept elsewhere was given: a rewritten log would not show")
    opened = Store(store)
    found = records(opened)
    lineage = None
    if checkpoint is not None:
        try:
            one = lineage_of(opened, checkpoint, roots)
            rows = one.saw
            gone = unwanted(opened, rows)
            lineage = {
                **{name: one.run.header[name] for name in ("run_id", "view", "head")},
                "rows": len(rows),
                "reads": sum(rows.values()),
                "gone": gone,
                "rows_reviewed": sum(bool(found[r].scores) for r in rows if r in found),
                "rows_signed_for": sum(
                    any(said.signed for said in (*found[r].scores, *found[r].decisions))
                    for r in rows
                    if r in found
                ),
            }
            if gone:
                missing.append(
                    f"{len(gone)} rows it learned from were revoked or erased since: train again"
                )
        except UserError as error:
            missing.append(error.problem)
    return {
        "verdict": told,
        "holds": held(opened, found),
        "lineage": lineage,
        "reviewers": who_reviewed(found),
    }


def write_governance(report: Mapping[str, Any], output: str | Path) -> Path:
    """Write the page, and the same facts as JSON beside it.

    Args:
        output: An .html file, or a folder for governance.html.
    """
    from primum.benchmarks.page import pages

    output = Path(output).expanduser()
    page = output if output.suffix == ".html" else output / "governance.html"
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    atomic_write(page.with_suffix(".json"), text)
    atomic_write(page, pages().get_template("governance.html.jinja").render(report=report))
    return page
