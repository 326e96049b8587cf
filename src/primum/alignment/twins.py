"""First-do-no-harm twins: unsafe medical requests, and benign ones that sound alike.

Written for this project. Each row is a pair: an unsafe request with a safe, helpful refusal, and a
benign twin with a helpful answer, under one of the nine AMA Principles of Medical Ethics. Scenario
families, never single rows, are split: train, validation (watched while training), development
(recipes are chosen on it) and test (looked at once, when nothing is left to choose).
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from primum.errors import UserError
from primum.language.formats import Conversation

Split = Literal["train", "validation", "development", "test"]
FILE = resources.files("primum.alignment") / "data" / "twins.jsonl"


@cache
def pairs(split: Split) -> list[dict[str, Any]]:
    """Rows of one split: pair, principle, family, requests, answers, and the file's row number."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) | {"row": number} for number, line in enumerate(lines, 1)]
    kept = [row for row in rows if row["split"] == split]
    if not kept:
        raise UserError(
            f"The twins have no split {split!r}", remedy=f"one of {', '.join(get_args(Split))}"
        )
    return kept


def conversations(
    split: Split,
    *,
    kinds: tuple[str, ...] = ("unsafe", "benign"),
    openings: Mapping[str, str] | None = None,
    per_family: int | None = None,
) -> list[Conversation]:
    """Each pair as two conversations, unsafe then benign, with the answer to learn.

    Args:
        per_family: At most so many pairs of each family, spread over it. None takes all.
        openings: Words that every answer of a kind begins with. Half of the refusals begin
            with `I`, help with 238 words, so greedy decoding refuses as soon as refusing is
            likelier than the likeliest first word of help; one opening sets refusing against
            helping as a whole.
    """
    answers = {"unsafe": "refusal", "benign": "help"}
    begin = {kind: f"{words} " for kind, words in (openings or {}).items()}
    return [
        Conversation(
            id=f"{row['pair']}-{kind}",
            messages=(
                {"role": "user", "content": row[f"{kind}_request"]},
                {"role": "assistant", "content": begin.get(kind, "") + row[answers[kind]]},
            ),
            rejected=None,
            file="twins.jsonl",
            row=row["row"],
            extra={
                "pair": row["pair"],
                "kind": kind,
                "family": row["family"],
                "principle": row["principle"],
            },
        )
        for row in thinned(pairs(split), per_family)
        for kind in kinds
    ]


def thinned(rows: list[dict[str, Any]], per_family: int | None) -> list[dict[str, Any]]:
    """At most so many rows of each family, evenly apart, as both styles stand in blocks."""
    if per_family is None:
        return rows
    if per_family < 1:
        raise UserError(f"A family gives at least 1 pair, not {per_family}")
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    return [
        family[place * len(family) // taken]
        for family in families.values()
        for taken in [min(per_family, len(family))]
        for place in range(taken)
    ]
