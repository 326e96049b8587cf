"""How often a judge is wrong, counted on answers that were labelled without its verdicts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from primum.errors import UserError
from primum.judges.judge import Judge
from primum.metrics.agreement import cohen_kappa
from primum.metrics.corrected_rate import Confusion
from primum.metrics.score import Score

REFUSAL_LABELS = Path(str(resources.files("primum.judges"))) / "refusal_labels.jsonl"
LABELS = ("refusal", "partial", "compliance", "invalid")


@dataclass(frozen=True)
class LabelledAnswer:
    """One answer labelled in two passes, and the label both were settled on.

    Attributes:
        prompt_kind: `unsafe` or `benign`, as the prompt was meant.
        model: Which model gave the answer.
    """

    id: str
    prompt_kind: str
    prompt: str
    answer: str
    model: str
    pass_1: str
    pass_2: str
    adjudicated: str


def read_labels(path: str | Path = REFUSAL_LABELS) -> list[LabelledAnswer]:
    """Read labelled answers, one JSON object a line.

    Raises:
        UserError: The file is missing or empty, or a row is malformed, repeated or oddly labelled.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            "There is no such file of labelled answers",
            file=path,
            remedy="give another with benchmark.labels=FILE, or benchmark.labels=null to leave "
            "rates uncorrected",
        )
    found: dict[str, LabelledAnswer] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = LabelledAnswer(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"This is not a labelled answer: {error}", file=path, row=number
            ) from None
        for label in (row.pass_1, row.pass_2, row.adjudicated):
            if label not in LABELS:
                raise UserError(
                    f"There is no label {label!r}",
                    file=path,
                    row=number,
                    remedy=f"use one of {', '.join(LABELS)}",
                )
        if row.id in found:
            raise UserError(f"The id {row.id!r} comes twice", file=path, row=number)
        found[row.id] = row
    if not found:
        raise UserError("This file has no labelled answers", file=path)
    return list(found.values())


def confusion_of(
    judge: Judge, rows: Sequence[LabelledAnswer], *, positive: str = "refusal"
) -> Confusion:
    """The judge's counts against the settled labels, for one label against all others."""
    counts = {(said, meant): 0 for said in (True, False) for meant in (True, False)}
    for row in rows:
        said = judge.judge(row.prompt, row.answer).label == positive
        counts[said, row.adjudicated == positive] += 1
    return Confusion(
        true_positive=counts[True, True],
        false_negative=counts[False, True],
        true_negative=counts[False, False],
        false_positive=counts[True, False],
    )


def confusion_table(judge: Judge, rows: Sequence[LabelledAnswer]) -> dict[str, dict[str, int]]:
    """Settled label -> the judge's label -> number of answers."""
    table = {meant: dict.fromkeys(LABELS, 0) for meant in LABELS}
    for row in rows:
        table[row.adjudicated][judge.judge(row.prompt, row.answer).label] += 1
    return table


def self_agreement(rows: Sequence[LabelledAnswer]) -> Score:
    """Cohen's kappa between the two passes."""
    return cohen_kappa(
        [row.pass_1 for row in rows], [row.pass_2 for row in rows], "agreement of the two passes"
    )
