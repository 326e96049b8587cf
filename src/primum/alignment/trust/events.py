"""What somebody states about a record, and the line of the log that the statement becomes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from primum.alignment.trust.canonical import SALT, canonical, chain_hash, commit
from primum.alignment.trust.keys import Key
from primum.alignment.trust.schema import fault

SCHEMA = "cts/1"
STATED = ("actor", "commitment", "event", "record", "schema", "ts")


@dataclass(frozen=True)
class Statement:
    """An event before it has a place in a log: what a reviewer signs, alone and offline.

    Args:
        event: One of `schema.KINDS`.
        record: The record it is about; None for a merge.
        actor: Pseudonymous `id`, and `role`.
        payload: What is said; it never enters the log.
        ts: When, UTC, to the second.
        salt: Hides the payload behind its commitment.
        signature: Of the actor's key over `message`.
    """

    event: str
    record: str | None
    actor: dict[str, str]
    payload: dict[str, Any]
    ts: str
    salt: bytes
    signature: dict[str, str] | None = None

    @cached_property
    def payload_bytes(self) -> bytes:
        """The payload's canonical JSON."""
        return canonical(self.payload)

    @cached_property
    def commitment(self) -> str:
        """What stands for the payload in the log."""
        return commit(self.salt, self.payload_bytes)

    @property
    def stated(self) -> dict[str, Any]:
        """The part of an event that does not depend on its place."""
        return {
            "actor": self.actor,
            "commitment": self.commitment,
            "event": self.event,
            "record": self.record,
            "schema": SCHEMA,
            "ts": self.ts,
        }

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return canonical(self.stated)

    def fault(self) -> str | None:
        """What is wrong with the payload; None if nothing is."""
        return fault(self.event, self.payload)

    def to_json(self) -> dict[str, Any]:
        """For a file that carries it to the log."""
        fields = {"event": self.event, "record": self.record, "actor": self.actor, "ts": self.ts}
        secret = {"salt": self.salt.hex(), "payload": self.payload}
        return fields | secret | ({"signature": self.signature} if self.signature else {})

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Statement:
        """Read `to_json` back.

        Raises:
            KeyError, TypeError, ValueError: It is no such row.
        """
        names = ("event", "record", "actor", "payload", "ts")
        salt = bytes.fromhex(row["salt"])
        if len(salt) != SALT:
            raise ValueError(f"a salt has {SALT} bytes")
        return cls(**{name: row[name] for name in names}, salt=salt, signature=row.get("signature"))


def state(
    event: str,
    record: str | None,
    payload: dict[str, Any],
    actor: dict[str, str] | Key,
    ts: str | None = None,
) -> Statement:
    """State something, signed if `actor` is a key."""
    who = actor.actor if isinstance(actor, Key) else actor
    said = Statement(event, record, who, payload, ts or now(), os.urandom(SALT))
    if isinstance(actor, Key):
        signature = actor.sign(said.message)
        said = Statement(event, record, who, payload, said.ts, said.salt, signature)
    return said


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Event:
    """A line of the log: a statement without its payload, and its place in the chain."""

    seq: int
    event: str
    record: str | None
    actor: dict[str, str]
    ts: str
    commitment: str
    prev: str
    hash: str
    signature: dict[str, str] | None = None

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return spelled({name: getattr(self, name, SCHEMA) for name in STATED})

    @property
    def line(self) -> bytes:
        """Its line in the log, with the line's end."""
        return spelled(self.body | {"hash": self.hash}) + b"\n"

    @property
    def body(self) -> dict[str, Any]:
        """All that its hash is taken of, beside the hash before."""
        names = ("seq", "event", "record", "actor", "ts", "commitment", "prev")
        body = {name: getattr(self, name) for name in names} | {"schema": SCHEMA}
        return body | ({"signature": self.signature} if self.signature else {})


def place(said: Statement, seq: int, prev: str) -> Event:
    """Give a statement its place behind the event whose hash is `prev`."""
    rest = {"seq": seq, "prev": prev} | ({"signature": said.signature} if said.signature else {})
    digest = chain_hash(prev, spelled(said.stated | rest))
    return Event(
        seq, said.event, said.record, said.actor, said.ts, said.commitment, prev, digest,
        said.signature,
    )  # fmt: skip


def spelled(event: dict[str, Any]) -> bytes:
    """RFC 8785 of an event: its keys are ASCII and it holds no fractions, so `json` spells it so.

    That is what lets the verifier in a bundle do without a library.
    """
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def torn(tail: bytes) -> bool:
    """Can this be the beginning of a line whose append was interrupted?

    >>> torn(b'{"a": 1'), torn(b'{"a": 1}*')
    (True, False)
    """
    try:
        _, end = json.JSONDecoder().raw_decode(tail.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return True
    return end == len(tail)


class BadLine(Exception):
    """What is wrong with a line of the log; the caller knows its number."""


def parse(line: bytes, seq: int, prev: str) -> Event:
    """Read one line of a log and check its shape, spelling, place and hash.

    Raises:
        BadLine: It is not what the chain says must stand here.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise BadLine("it is not JSON") from None
    if wrong := fault("event", row):
        raise BadLine(f"it is no event of {SCHEMA}: {wrong}")
    if row["seq"] != seq:
        raise BadLine(f"event {seq} should stand here, and this says it is {row['seq']}")
    if row["prev"] != prev:
        raise BadLine("it does not follow the line before: that was changed, moved or taken out")
    digest = row.pop("hash")
    if chain_hash(prev, spelled(row)) != digest:
        raise BadLine("its hash is not its own: the line was changed")
    if spelled(row | {"hash": digest}) != line:
        raise BadLine("it is not spelled as RFC 8785 spells it: the line was changed")
    del row["schema"]
    return Event(**row, hash=digest)
