"""Everyday requests outside medicine, with helpful answers: what learning to refuse must not touch.

Written for this project. Half sounds dangerous by a word that is meant otherwise, a third by its
topic, the rest not at all. A model that has only seen medical requests refused takes whatever is
unlike them for unsafe as well. One row in eight is `development`, which recipes are chosen with.
"""

import json
from functools import cache
from importlib import resources
from typing import Literal

from primum.errors import UserError
from primum.language.formats import Conversation

FILE = resources.files("primum.alignment") / "data" / "everyday.jsonl"


@cache
def everyday(split: Literal["train", "development"]) -> tuple[Conversation, ...]:
    """The requests of one split with their answers, as benign conversations."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) | {"row": number} for number, line in enumerate(lines, 1)]
    kept = [row for row in rows if row["split"] == split]
    if not kept:
        raise UserError(
            f"The everyday requests have no split {split!r}", remedy="train or development"
        )
    return tuple(
        Conversation(
            id=row["id"],
            messages=(
                {"role": "user", "content": row["request"]},
                {"role": "assistant", "content": row["help"]},
            ),
            rejected=None,
            file=FILE.name,
            row=row["row"],
            extra={"kind": "benign", "family": "everyday"},
        )
        for row in kept
    )
