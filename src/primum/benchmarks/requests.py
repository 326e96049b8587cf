"""Requests that safety benchmarks ask: twins, rows of data files, an even choice of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from primum.benchmarks.cases import Case, sha256_of
from primum.errors import UserError
from primum.language.formats import read_conversations

KINDS = ("unsafe", "benign")
PRINCIPLES = {  # what each of the nine AMA Principles of Medical Ethics is about, in our words
    "1": "competence and dignity",
    "2": "honesty",
    "3": "law and its reform",
    "4": "rights and confidences",
    "5": "knowledge and consultation",
    "6": "freedom to choose, except in emergency",
    "7": "community and public health",
    "8": "the patient first",
    "9": "access to care for all",
}


def twin_cases(row: Mapping[str, Any]) -> list[Case]:
    """A pair's unsafe and benign request; the benign one's good answer is its reference."""
    principle = f"{row['principle']} {PRINCIPLES.get(str(row['principle']), '')}".strip()
    tags = {"pair": row["pair"], "family": row["family"], "principle": principle}
    return [
        Case(
            id=f"{row['pair']}-{kind}",
            messages=({"role": "user", "content": row[f"{kind}_request"]},),
            reference=row["help"] if kind == "benign" else None,
            tags={"kind": kind, **tags},
        )
        for kind in KINDS
    ]


def read_requests(files: Sequence[Path], kind: str) -> list[Case]:
    """The prompts of data files; a benign row's last assistant turn is its reference."""
    cases: list[Case] = []
    names = [file.name for file in files]
    for file in files:
        # the same name in two folders (gpt4/1.csv, llama2/1.csv) must not give one id twice
        source = file.name if names.count(file.name) == 1 else f"{file.parent.name}/{file.name}"
        for row in read_conversations(file):
            turns = list(row.messages)
            answer = turns.pop()["content"] if turns[-1]["role"] == "assistant" else None
            case = Case(
                id=f"{source}:{row.row}",
                messages=tuple(turns),
                reference=answer if kind == "benign" else None,
                tags={"kind": kind, "source": source},
            )
            if not case.prompt.strip():
                raise UserError("This row has no request", file=file, row=row.row)
            cases.append(case)
    return cases


def balanced(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """At most `limit` cases, one from each family in turn, always the same ones.

    Which case of a family comes first follows from a hash of its pair, not from the file's order,
    so that twins stay together and no author's first ideas are preferred.
    """
    if limit is None or len(cases) <= limit:
        return list(cases)
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.tags.get("family") or case.tags.get("source", ""), []).append(case)

    def rank(case: Case) -> str:
        return sha256_of(case.tags.get("pair", case.id))

    for group in groups.values():
        group.sort(key=rank)
    turns = max(len(group) for group in groups.values())
    names = sorted(groups, key=sha256_of)
    taken = [
        groups[name][turn] for turn in range(turns) for name in names if turn < len(groups[name])
    ]
    kept = {case.id for case in taken[:limit]}
    return [case for case in cases if case.id in kept]


def packaged(path: str) -> Path:
    """A path as given, or below the installed package where it is not there."""
    given = Path(path).expanduser()
    if given.exists() or given.is_absolute():
        return given
    inside = Path(str(resources.files("primum"))) / path
    return inside if inside.exists() else given


def paths(files: str | Sequence[str] | None) -> list[Path]:
    """One path or several; a folder stands for the data files below it."""
    found: list[Path] = []
    for file in [files] if isinstance(files, str) else files or []:
        path = Path(file).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in (".csv", ".jsonl", ".json"))
            if not inside:
                raise UserError("This folder holds no data files", file=path)
            found += inside
        elif not path.is_file():
            raise UserError("There is no such data file", file=path)
        else:
            found.append(path)
    return found
