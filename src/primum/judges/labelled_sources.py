"""Answers that people labelled as refusing or complying, from files the user has.

Third parties' answers are read where they lie and never copied; only weights leave this room.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from primum.errors import UserError
from primum.judges.labels import read_labels
from primum.judges.refusal_features import topic_overlap
from primum.judges.refusal_rules import RefusalRules

XSTEST = {"1": "compliance", "2": "refusal", "3": "partial"}


@dataclass(frozen=True)
class Labelled:
    """One answer with its label.

    Attributes:
        source: The data set; what leave-one-source-out leaves out.
        part: The model or file within it.
        label: `refusal`, `partial` or `compliance`.
        three_way: Whether the source tells partial refusals from full ones.
        human: Whether people who had no part in this project labelled it.
    """

    source: str
    part: str
    prompt: str
    answer: str
    label: str
    three_way: bool
    human: bool


def read_xstest(folder: Path) -> Iterator[Labelled]:
    """XSTest's model completions, 450 prompts a model, two annotators and a final label.

    Röttger et al., 2024. The folder holds `xstest_v2_completions_*.csv`.
    """
    files = sorted(folder.rglob("xstest_v2_completions_*.csv"))
    files = [file for file in files if not file.stem.endswith(("gpteval", "streval"))]
    if not files:
        raise UserError("This folder holds no xstest_v2_completions_*.csv", file=folder)
    for file in files:
        for number, row in _rows(file):
            label = XSTEST.get(str(row.get("final_label") or "")[:1])
            if label is None:
                raise UserError("This row has no final_label", file=file, row=number)
            part = file.stem.rpartition("_")[2]
            yield Labelled("xstest", part, row["prompt"], row["completion"], label, True, True)


def read_pyrit(folder: Path) -> Iterator[Labelled]:
    """The refusal labels that the `pyrit` package ships (0 or 1, by people).

    The folder holds `refusal.csv` and `refusal_extra.csv`; see `pyrit_folder`.
    """
    for name in ("refusal.csv", "refusal_extra.csv"):
        file = folder / name
        if not file.is_file():
            raise UserError("There is no such file", file=file)
        for _, row in _rows(file):
            label = "refusal" if float(row["human_score"]) > 0.5 else "compliance"
            yield Labelled(
                "pyrit", file.stem, row["objective"], row["assistant_response"], label, False, True
            )


def read_pyrit_achieved(folder: Path) -> Iterator[Labelled]:
    """Attacks that people judged as having achieved their objective or not, from `pyrit`.

    These are no labels of refusals. What achieved it did not refuse outright; what did not and
    declines by our rules refused. The others say nothing here, so nobody counts on these labels.
    """
    files = sorted((folder.parent / "objective").glob("*.csv"))
    if not files:
        raise UserError("There is no folder `objective` beside this one", file=folder)
    rules = RefusalRules()
    for file in files:
        for _, row in _rows(file):
            request, answer = row["objective"], row["assistant_response"]
            said = rules.judge(request, answer).label
            if float(row["human_score"]) > 0.5:
                label = "compliance" if said == "compliance" else "partial"
            elif said == "refusal":
                label = "refusal"
            else:
                continue
            yield Labelled("pyrit", "achieved", request, answer, label, True, False)


def read_own(file: Path) -> Iterator[Labelled]:
    """Answers of our own small models, labelled by the project in two passes."""
    for row in read_labels(file):
        if row.adjudicated != "invalid":
            yield Labelled("own", row.model, row.prompt, row.answer, row.adjudicated, True, False)


def read_twins(file: Path) -> Iterator[Labelled]:
    """Refusals and helpful answers that were written for the twins' train split."""
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["split"] != "train":
            continue
        for request, answer, label in (
            ("unsafe_request", "refusal", "refusal"),
            ("benign_request", "help", "compliance"),
        ):
            yield Labelled("twins", row["family"], row[request], row[answer], label, False, False)


def off_topic(rows: Sequence[Labelled], *, every: int = 4) -> list[Labelled]:
    """Helpful answers laid under other requests of their source, whose words they do not take up.

    Such an answer gives nothing of what was asked; the labels in `pyrit` call that a refusal too.
    """
    found = []
    helped = [row for row in rows if row.label == "compliance"]
    for number, row in enumerate(helped[::every]):
        others = (helped[(number * every + step) % len(helped)] for step in range(7, len(helped)))
        asked = next(
            (
                one.prompt
                for one in others
                if one.source == row.source and topic_overlap(one.prompt, row.answer) == "none"
            ),
            None,
        )
        if asked is not None:
            found.append(Labelled(row.source, row.part, asked, row.answer, "refusal", False, False))
    return found


def read_examples(file: Path) -> Iterator[Labelled]:
    """Answers written by the project for what small sets of refusals lack: objections to a premise,
    moral advice in place of help, partial refusals, and help that sounds like a refusal."""
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Labelled("examples", "", row["prompt"], row["answer"], row["label"], True, False)


def read_medsafetybench(file: Path) -> Iterator[Labelled]:
    """MedSafetyBench's training answers (Han et al., 2024): written to be safe, so they refuse."""
    for row in json.loads(file.read_text("utf-8")):
        yield Labelled(
            "medsafetybench", "", row["instruction"], row["output"], "refusal", False, False
        )


READERS: Mapping[str, Callable[[Path], Iterator[Labelled]]] = {
    "xstest": read_xstest,
    "pyrit": read_pyrit,
    "own": read_own,
    "twins": read_twins,
    "pyrit achieved": read_pyrit_achieved,
    "examples": read_examples,
    "medsafetybench": read_medsafetybench,
}


def pyrit_folder() -> Path:
    """Where the installed `pyrit` package keeps its refusal labels.

    Raises:
        UserError: It is not installed.
    """
    found = find_spec("pyrit")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "The package `pyrit` is not installed",
            remedy="pip install --no-deps pyrit==1.1.0, or name the folder: --source pyrit=FOLDER",
        )
    package = Path(found.submodule_search_locations[0])
    return package / "datasets" / "scorer_evals" / "refusal_scorer"


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file whose first lines may be `# comments`."""
    csv.field_size_limit(2**24)
    lines = file.read_text("utf-8-sig").splitlines(keepends=True)
    comments = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    yield from enumerate(csv.DictReader(lines[comments:]), comments + 2)
