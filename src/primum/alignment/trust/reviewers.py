"""Who reviewed what: the table a governance board asks for first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from primum.alignment.trust.records import Record, Said
from primum.alignment.trust.store import Store
from primum.alignment.trust.strikes import StrikePolicy, strike
from primum.metrics.agreement import cohen_kappa
from primum.metrics.proportion import proportion
from primum.metrics.score import Score


def who_reviewed(found: Mapping[str, Record]) -> list[dict[str, Any]]:
    """One row a reviewer: role, rows, dates, share signed, share double-scored, agreement, vetoes.

    `agreement` is over the (row, criterion) values that another reviewer also gave on the same
    version: the share of equal values, with Wilson's interval, and Cohen's kappa of whether the row
    fails (see `strikes`).
    """
    said: dict[str, list[tuple[Record, Said]]] = {}
    for record in found.values():
        for one in (*record.scores, *record.edits, *record.disputed, *record.decisions):
            said.setdefault(one.who, []).append((record, one))
    return [_row(name, own) for name, own in sorted(said.items())]


def _row(name: str, own: list[tuple[Record, Said]]) -> dict[str, Any]:
    kinds = [one.event.event for _, one in own]
    scores = [(record, one) for record, one in own if one.event.event == "score"]
    pairs = [(one, other) for record, one in scores for other in _others(record, one)]
    double = {one.event.seq for one, _ in pairs}
    open_vetoes = [v for r, _ in scores for v in r.open_vetoes() if v.who == name]
    equal, kappa = agreement(pairs)
    return {
        "reviewer": name,
        "role": ", ".join(sorted({one.event.actor["role"] for _, one in own})),
        "rows": len({record.id for record, _ in own}),
        **{f"{kind}s": kinds.count(kind) for kind in ("score", "edit", "decision")},
        "first": min(one.event.ts for _, one in own),
        "last": max(one.event.ts for _, one in own),
        "signed": sum(one.signed for _, one in own) / len(own),
        "double_scored": len(double) / len(scores) if scores else None,
        "agreement": equal._asdict(),
        "kappa": kappa._asdict(),
        "open_vetoes": len({v.event.seq for v in open_vetoes}),
    }


def _others(record: Record, one: Said) -> list[Said]:
    """Scores of the same version on the same rubric by somebody else."""
    return [
        other
        for other in record.scores
        if other.who != one.who
        and other.payload["text_sha256"] == one.payload["text_sha256"]
        and other.payload["rubric"] == one.payload["rubric"]
    ]


def agreement(pairs: list[tuple[Said, Said]]) -> tuple[Score, Score]:
    """Share of equal criterion values, and kappa of failing, over pairs of scores."""
    equal = total = 0
    policy = StrikePolicy()
    first, second = [], []
    for one, other in pairs:
        for name, value in one.payload["values"].items():
            theirs = other.payload["values"].get(name)
            if value is not None and theirs is not None:
                equal += value == theirs
                total += 1
        first.append(int(strike(one.payload, policy)))
        second.append(int(strike(other.payload, policy)))
    name = "equal values"
    if total == 0:
        none = Score.unavailable(name, "no version was scored by two people", True)
        return none, Score.unavailable("kappa of failing", none.protocol, True)
    return proportion(equal, total, name), cohen_kappa(first, second, "kappa of failing")


def summary(store: Store, found: Mapping[str, Record]) -> dict[str, Any]:
    """What the store holds, in numbers."""
    live = [one for one in found.values() if one.revoked is None]
    standings = [one.standing() or "open" for one in live]
    names = ("accepted", "rejected", "escalated", "open")
    return {
        "records": len(store.records),
        "erased": len(store.erased),
        "revoked": len(found) - len(live),
        **{name: standings.count(name) for name in names},
        "scored": sum(bool(one.scores) for one in live),
        "edited": sum(bool(one.edits) for one in live),
        "open_vetoes": sum(len(one.open_vetoes()) for one in live),
        "disputed": sum(bool(one.open_disputes()) for one in live),
        "head": store.head,
        "events": len(store.events),
    }
