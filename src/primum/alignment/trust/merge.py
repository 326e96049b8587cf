"""Two logs that went separate ways become one; what both sides changed is shown, not guessed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from primum.alignment.trust.erase import erase
from primum.alignment.trust.events import Event, Statement, state
from primum.alignment.trust.keys import Key, Register
from primum.alignment.trust.records import Record, records
from primum.alignment.trust.store import Store, payload_lines
from primum.errors import UserError


@dataclass(frozen=True)
class Conflict:
    """A record that both sides changed in ways that exclude each other."""

    record: str
    what: str


@dataclass(frozen=True)
class Merged:
    """What a merge did: events both logs began with, events taken over, conflicts."""

    common: int
    taken: int
    conflicts: list[Conflict]


def merge(
    store: Store,
    other: Store,
    actor: dict[str, str] | Key,
    escalate: bool = False,
    roots: Sequence[str | Path] = (),
) -> Merged:
    """Append to `store` what `other` has beyond their common beginning.

    Statements keep their times and signatures, which do not depend on their place in a chain.
    Records erased on either side stay, or become, erased.

    Args:
        escalate: Take conflicting records over too and escalate each, so that no view has them
            until a panel decides.
        roots: Where to look for the words of records that the other side erased.

    Raises:
        UserError: The logs share no beginning, a reviewer's key is unknown here, or there are
            conflicts and `escalate` is False; the message lists them. Nothing is changed then.
    """
    pairs = zip(store.events, other.events, strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0].hash == pair[1].hash, pairs))
    if not common and store.events and other.events:
        raise UserError(
            "These two logs do not begin alike, so they are not two states of one store",
            file=other.path,
            remedy="import its rows instead: primum trust view, then primum trust import",
        )
    theirs = [e for e in other.events[common:] if e.commitment not in store.said]
    conflicts = find_conflicts(store, other, store.events[common:], theirs)
    if conflicts and not escalate:
        listed = "".join(f"\n    {one.record}: {one.what}" for one in conflicts)
        raise UserError(
            f"The logs part after event {common} and contradict each other on {len(conflicts)} "
            f"record(s):{listed}",
            file=other.path,
            remedy="--escalate takes both sides over and leaves these records to a panel",
        )
    _learn_keys(store.register, other.register)
    statements = [_restated(other, event) for event in theirs if _wanted(store, other, event)]
    last = {
        "common": common,
        "other_count": len(other.events),
        "other_head": other.head,
        "taken": len(statements),
        "conflicts": [one.record for one in conflicts],
    }
    store.append([*_erasing_last(statements), state("merge", None, last, actor)])
    for said in statements:
        if said.event == "erase" and said.record is not None:
            erase(
                store, said.record, said.payload["reason"], actor, roots
            )  # goes on from the event
    if conflicts:
        now = records(store)
        store.append([_escalated(now[c.record], c, actor) for c in conflicts if c.record in now])
    return Merged(common, len(statements), conflicts)


def find_conflicts(
    store: Store, other: Store, ours: list[Event], theirs: list[Event]
) -> list[Conflict]:
    """Records changed on both sides: two edits of one text, decisions that differ, a revocation."""
    mine, yours = _by_record(ours), _by_record(theirs)
    shared = [name for name in mine if name in yours]
    shared = [one for one in shared if one not in store.erased | other.erased]
    if not shared:
        return []
    here, there = records(store), records(other)
    found = []
    for name in shared:
        kinds = [{event.event for event in side[name]} for side in (mine, yours)]
        left, right = here.get(name), there.get(name)
        if left is None or right is None:
            continue
        if "create" in kinds[0] & kinds[1]:
            what = "both sides created it"
        elif "edit" in kinds[0] & kinds[1] and left.now != right.now:
            what = "both sides edited it, to different texts"
        elif "edit" in kinds[0] | kinds[1] and "decision" in kinds[0] | kinds[1]:
            what = "one side edited it, the other decided on the text before"
        elif left.standing() != right.standing() and "decision" in kinds[0] & kinds[1]:
            what = f"{left.standing()} here, {right.standing()} there"
        elif bool(left.revoked) != bool(right.revoked) and "decision" in kinds[0] | kinds[1]:
            what = "one side revoked it, the other decided on it"
        else:
            continue
        found.append(Conflict(name, what))
    return found


def _by_record(events: list[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        if event.record is not None:
            found.setdefault(event.record, []).append(event)
    return found


def _wanted(store: Store, other: Store, event: Event) -> bool:
    if event.record in store.erased:
        return False
    if event.event == "create" and event.record in store.records:
        return False
    gone = event.record in other.erased
    return not gone or (event.event == "erase" and event.record in store.records)


def _restated(other: Store, event: Event) -> Statement:
    for commitment, salt, payload in payload_lines(other.payload_file(event)):
        if commitment == event.commitment:
            said = json.loads(payload)
            return Statement(
                event.event, event.record, event.actor, said, event.ts, salt, event.signature
            )
    raise UserError(
        "The other log's payload of this event is missing", file=other.log, row=event.seq + 1
    )


def _erasing_last(statements: list[Statement]) -> list[Statement]:
    return sorted(statements, key=lambda said: said.event == "erase")


def _learn_keys(mine: Register, yours: Register) -> None:
    unknown = [row for key, row in yours.keys.items() if key not in mine.keys]
    if unknown:
        names = ", ".join(f"{row['reviewer']} ({row['role']})" for row in unknown)
        raise UserError(
            f"The other store knows reviewers that this one does not: {names}",
            file=yours.path,
            remedy=f"if they are who they should be: primum trust enrol {yours.path}",
        )


def _escalated(record: Record, conflict: Conflict, actor: dict[str, str] | Key) -> Statement:
    payload = {
        "verdict": "escalated",
        "text_sha256": record.now.sha256,
        "panel": False,
        "covers": "record",
        "reason": f"merge: {conflict.what}",
    }
    return state("decision", record.id, payload, actor)
