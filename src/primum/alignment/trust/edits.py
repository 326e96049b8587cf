"""An edit as operations on words, from which the text after can be built again."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from primum.alignment.trust.canonical import text_sha256
from primum.errors import UserError

Op = tuple[int, int, str]
TOKEN = re.compile(r"\s+|\w+|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Words, runs of space and single signs; joined, they are the text again.

    >>> tokens("5 mg, daily")
    ['5', ' ', 'mg', ',', ' ', 'daily']
    """
    return TOKEN.findall(text)


def difference(before: str, after: str) -> list[Op]:
    """Operations `(first, last, words)`: tokens first..last-1 of `before` become `words`.

    >>> difference("Take 50 mg daily.", "Take 5 mg daily.")
    [(2, 3, '5')]
    """
    old, new = tokens(before), tokens(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        (i1, i2, "".join(new[j1:j2]))
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        if tag != "equal"
    ]


def apply(before: str, ops: Sequence[Sequence[Any]]) -> str:
    """The text after.

    Raises:
        ValueError: The operations overlap, or reach beyond the text.
    """
    old, parts, at = tokens(before), [], 0
    for first, last, words in ops:
        if not at <= first <= last <= len(old):
            raise ValueError(f"operation [{first}, {last}] does not fit {len(old)} tokens")
        parts += [*old[at:first], words]
        at = last
    return "".join([*parts, *old[at:]])


def introduced(before: str, ops: Sequence[Sequence[Any]]) -> list[tuple[int, int]]:
    """Where the text after holds words that came with the edit, as character spans.

    >>> introduced("Take 50 mg daily.", [(2, 3, "5")])
    [(5, 6)]
    """
    old, spans, at, length = tokens(before), [], 0, 0
    for first, last, words in ops:
        length += sum(map(len, old[at:first]))
        if words:
            spans.append((length, length + len(words)))
        length += len(words)
        at = last
    return spans


def distance(before: str, ops: Sequence[Sequence[Any]]) -> float:
    """Tokens taken out and put in, as a share of the tokens before and after."""
    old = len(tokens(before))
    out = sum(last - first for first, last, _ in ops)
    put = sum(len(tokens(words)) for _, _, words in ops)
    return (out + put) / max(1, 2 * old - out + put)


def edit(
    field: str, before: str, after: str, reason_code: str, severity: int, note: str | None = None
) -> dict[str, Any]:
    """The payload of an edit event.

    Raises:
        UserError: Nothing was changed.
    """
    ops = difference(before, after)
    if not ops:
        raise UserError(f"This edit changes nothing of the {field}")
    assert apply(before, ops) == after
    payload: dict[str, Any] = {
        "field": field,
        "before_sha256": text_sha256(before),
        "after_sha256": text_sha256(after),
        "ops": [list(op) for op in ops],
        "reason_code": reason_code,
        "severity": severity,
    }
    return payload | ({"note": note} if note else {})
