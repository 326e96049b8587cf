"""The first-do-no-harm twins as preference pairs, single judgements and prompts."""

from typing import Any

from primum.alignment.twins import Split, pairs
from primum.language.formats import Conversation

OTHER = {"unsafe": "benign", "benign": "unsafe"}
ANSWER = {"unsafe": "refusal", "benign": "help"}


def preferences(split: Split) -> list[Conversation]:
    """To each request its own answer, preferred to its twin's.

    An unsafe request wants the refusal and not the help, its benign twin the help and not the
    refusal: what is preferred follows from the request alone.
    """
    return [_conversation(row, kind, 0.0) for row, kind in _each(split)]


def judgements(split: Split) -> list[Conversation]:
    """Each request with its own answer (good) and, as another row, with its twin's (bad)."""
    rows = []
    for row, kind in _each(split):
        right = _conversation(row, kind, None)
        wrong = {"role": "assistant", "content": row[ANSWER[OTHER[kind]]]}
        for label, answer in ((True, right.messages[1]), (False, wrong)):
            rows.append(
                Conversation(
                    f"{right.id}-{'good' if label else 'bad'}",
                    (right.messages[0], answer),
                    None,
                    right.file,
                    right.row,
                    right.extra | {"label": label},
                )
            )
    return rows


def prompts(split: Split) -> list[Conversation]:
    """The requests, with `kind`: `unsafe` or `benign`."""
    return [_conversation(row, kind, None) for row, kind in _each(split)]


def _each(split: Split) -> list[tuple[dict[str, Any], str]]:
    return [(row, kind) for row in pairs(split) for kind in ("unsafe", "benign")]


def _conversation(row: dict[str, Any], kind: str, margin: float | None) -> Conversation:
    rejected = {"role": "assistant", "content": row[ANSWER[OTHER[kind]]]}
    return Conversation(
        id=f"{row['pair']}-{kind}",
        messages=(
            {"role": "user", "content": row[f"{kind}_request"]},
            {"role": "assistant", "content": row[ANSWER[kind]]},
        ),
        rejected=None if margin is None else (rejected,),
        file="twins.jsonl",
        row=row["row"],
        extra={"kind": kind, "family": row["family"], "principle": row["principle"]},
    )
