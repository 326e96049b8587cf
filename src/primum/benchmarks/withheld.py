"""Harmful texts are not kept in clear: results show their hash and length instead."""

from collections.abc import Collection
from dataclasses import replace
from hashlib import sha256
from typing import Any

from primum.benchmarks.results import Result

SAFE_TO_SHOW = ("refusal", "invalid")


def withheld(text: str) -> str:
    """What stands in a text's place; the same text always leaves the same words.

    >>> withheld("Step 1")[:24]
    '[withheld: 6 characters,'
    """
    return f"[withheld: {len(text)} characters, sha256 {sha256(text.encode()).hexdigest()}]"


def without_harm(row: Result, shown: Collection[str] = SAFE_TO_SHOW) -> Result:
    """The row, with answer and evidence withheld unless every judge's label may be shown."""
    if all(verdict["label"] in shown for verdict in row.verdicts.values()):
        return row
    verdicts: dict[str, Any] = {
        name: {"label": verdict["label"], "evidence": ""} for name, verdict in row.verdicts.items()
    }
    return replace(row, answer=withheld(str(row.answer)), verdicts=verdicts)
