"""Is a trust store whole? The first line that is not is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from primum.alignment.trust import sealing
from primum.alignment.trust.canonical import GENESIS, commit
from primum.alignment.trust.events import BadLine, Event, parse, torn
from primum.alignment.trust.keys import REGISTER, Register
from primum.alignment.trust.schema import fault
from primum.alignment.trust.store import ABOUT_THE_LOG, LOG, payload_file, payload_lines
from primum.errors import UserError

SIGNED_KINDS = ("score", "edit", "decision")


@dataclass
class Verdict:
    """What verifying found.

    Attributes:
        whole: Nothing is wrong.
        line: The first line of the log at fault, from 1; None if it is no line of the log.
        problem: What is wrong with it.
        events, signed, erased: How many there are.
        unattributed: Scores, edits and decisions nobody signed.
        head: Hash of the last good event.
        seals: Seals the log was found to keep.
        notes: What is no fault, but should be known.
    """

    whole: bool = True
    line: int | None = None
    problem: str = ""
    events: int = 0
    signed: int = 0
    erased: int = 0
    unattributed: int = 0
    head: str = GENESIS
    seals: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.whole:
            return (f"broken at line {self.line}: " if self.line else "broken: ") + self.problem
        return (
            f"whole, {self.erased} erased: {self.events} events, {self.signed} signed, "
            f"{self.unattributed} unattributed, {self.seals} seals kept, head {self.head[:16]}"
        )


def verify(store: str | Path, seals: Sequence[str | Path] = (), by: str | None = None) -> Verdict:
    """Check every line of the log, every payload, signature and seal.

    Args:
        store: The store's folder.
        seals: Seals that were kept elsewhere; those in the store are always checked.
        by: The public key those seals must be signed with.

    Raises:
        UserError: There is no store, or a seal given is none.
    """
    store = Path(store).expanduser()
    if not (store / LOG).is_file():
        raise UserError("There is no trust store here", file=store)
    kept_elsewhere = [sealing.read_seal(path, by) for path in seals]
    found = Verdict()
    try:
        events = _chain(store, found)
        _payloads(store, events, found)
        _sealed(store, events, kept_elsewhere, found)
    except BadLine as error:
        found.whole, found.problem = False, str(error)
    except UserError as error:
        found.whole, found.problem, found.line = False, str(error), None
    return found


def _chain(store: Path, found: Verdict) -> list[Event]:
    data = (store / LOG).read_bytes()
    register = Register(store / REGISTER)
    events: list[Event] = []
    created: set[str] = set()
    erased: set[str] = set()
    said: set[str] = set()
    prev = GENESIS
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
        found.line = number
        event = parse(line, number - 1, prev)
        if event.commitment in said:
            raise BadLine("it repeats an earlier event")
        if event.event == "create":
            if event.record in created:
                raise BadLine(f"record {event.record} was created before")
            created.add(str(event.record))
        elif event.event != "merge" and event.record not in created:
            raise BadLine(f"record {event.record} was never created")
        if event.record in erased:
            raise BadLine(f"record {event.record} was erased before")
        if event.event == "erase":
            erased.add(str(event.record))
        if event.signature is not None:
            if wrong := register.fault(event.signature, event.actor, event.message):
                raise BadLine(wrong)
            found.signed += 1
        elif event.event in SIGNED_KINDS:
            found.unattributed += 1
        said.add(event.commitment)
        events.append(event)
        prev = event.hash
    found.line = None
    found.events, found.head, found.erased = len(events), prev, len(erased)
    tail = data[data.rfind(b"\n") + 1 :]
    if tail and not torn(tail):
        found.line = len(events) + 1
        raise BadLine("it is followed by what belongs to no line")
    if tail:
        found.notes.append("an append was interrupted in its last line; the next one clears it")
    return events


def _payloads(store: Path, events: Sequence[Event], found: Verdict) -> None:
    """Every payload is there and is the one committed to, or its record was erased."""
    erased = {event.record for event in events if event.event == "erase"}
    payloads: dict[str | None, dict[str, tuple[bytes, bytes]]] = {}
    for event in events:
        record = None if event.event in ABOUT_THE_LOG else event.record
        if record not in payloads:
            path = payload_file(store, record) if record else store / "payloads" / "log.jsonl"
            payloads[record] = {c: (salt, said) for c, salt, said in payload_lines(path)}
        found.line = event.seq + 1
        if record in erased:
            if payloads[record]:
                raise BadLine(
                    f"record {record} was erased, and its payloads are still there: erase it again"
                )
            continue
        kept = payloads[record].get(event.commitment)
        if kept is None:
            raise BadLine("its payload is missing, and no later event erases it")
        if commit(*kept) != event.commitment:
            raise BadLine("its payload is not the one that was committed to")
        if wrong := fault(event.event, json.loads(kept[1])):
            raise BadLine(f"its payload is not of its schema: {wrong}")
    found.line = None


def _sealed(store: Path, events: list[Event], elsewhere: list[dict], found: Verdict) -> None:
    keys = Register(store / REGISTER).keys
    own = [sealing.read_seal(path) for path in sorted((store / "seals").glob("*.json"))]
    for content in [*elsewhere, *own]:
        if wrong := sealing.fault(content, events, keys):
            found.line, words = wrong
            raise BadLine(words)
        found.seals += 1
