"""The trust store: an append-only log of commitments, and beside it the payloads they stand for.

    log.jsonl              one event a line, chained by hash; holds no words of anybody
    payloads/ab/ID.jsonl   what was said of record ID: `commitment salt payload`, one a line
    payloads/log.jsonl     the same for events about the log itself (erase, merge)
    reviewers.json         whose key is whose
    seals/ lineage/        signed heads; which training run read which rows
    holders.jsonl          files that were written out of the store, so that erasing finds them

An append writes payloads first and the log last, each forced to the disk; `pending` names them in
between, so that after a crash the next append removes what no event stands for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from primum.alignment.trust.appending import append, cut_to_lines, sync_folder, whole_lines
from primum.alignment.trust.canonical import GENESIS, commit
from primum.alignment.trust.events import BadLine, Event, Statement, now, parse, place, torn
from primum.alignment.trust.keys import REGISTER, Register
from primum.alignment.trust.schema import fault
from primum.errors import UserError
from primum.files import atomic_write, full_disk_named

LOG, PENDING, HOLDERS = "log.jsonl", "pending", "holders.jsonl"
ABOUT_THE_LOG = ("erase", "merge")
NOT_WHOLE = "look at it with `primum trust verify`, and restore the store from a backup"


class Store:
    """A trust store on disk, opened for reading and appending.

    Args:
        path: A folder that `Store.create` made.

    Raises:
        UserError: There is none, or its log is broken (the message names the line).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.log = self.path / LOG
        if not self.log.is_file():
            raise UserError(
                "There is no trust store here", file=self.path, remedy="primum trust init FOLDER"
            )
        self.read_to = 0
        self._events: list[Event] = []
        self.records: set[str] = set()
        self.erased: set[str] = set()
        self.said: set[str] = set()
        self.refresh()

    @classmethod
    def create(cls, path: str | Path) -> Store:
        """Make an empty store.

        Raises:
            UserError: The folder holds something.
        """
        path = Path(path).expanduser()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError("This folder is not empty", file=path, remedy="choose another")
        for folder in ("payloads", "seals", "lineage"):
            (path / folder).mkdir(parents=True)
        path.chmod(0o700)  # it will hold patients' words
        atomic_write(path / LOG, b"")
        return cls(path)

    # Reading

    @property
    def events(self) -> list[Event]:
        """Every event, in order."""
        return self._events

    @property
    def head(self) -> str:
        """Hash of the last event; 64 zeros if there is none."""
        return self._events[-1].hash if self._events else GENESIS

    @property
    def register(self) -> Register:
        """Whose key is whose."""
        return Register(self.path / REGISTER)

    def refresh(self) -> None:
        """Read what others appended since; a line that is not whole yet is left alone.

        Raises:
            UserError: A line does not belong where it stands.
        """
        if self.log.stat().st_size < self.read_to:
            raise UserError("The log became shorter", file=self.log, remedy=NOT_WHOLE)
        with self.log.open("rb") as stream:
            stream.seek(self.read_to)
            new = stream.read()
        for line in new[: new.rfind(b"\n") + 1].split(b"\n")[:-1]:
            try:
                event = parse(line, len(self._events), self.head)
            except BadLine as error:
                raise UserError(
                    f"The log is broken: {error}",
                    file=self.log,
                    row=len(self._events) + 1,
                    remedy=NOT_WHOLE,
                ) from None
            self._events.append(event)
            self.read_to += len(line) + 1
            self._note(event)
        if not torn(new[new.rfind(b"\n") + 1 :]):
            raise UserError(
                "The log's last line is followed by what belongs to no line",
                file=self.log,
                row=len(self._events) + 1,
                remedy=NOT_WHOLE,
            )

    def _note(self, event: Event) -> None:
        self.said.add(event.commitment)
        if event.event == "create" and event.record is not None:
            self.records.add(event.record)
        elif event.event == "erase" and event.record is not None:
            self.erased.add(event.record)

    def payload(self, event: Event) -> dict[str, Any] | None:
        """What was said in an event; None if it was erased."""
        return self.payloads(event).get(event.commitment)

    def payloads(self, about: Event | str) -> dict[str, dict[str, Any]]:
        """Every payload of a record (or of an event's record) by its commitment.

        Raises:
            UserError: A payload is not the one that was committed to.
        """
        found = {}
        path = self.payload_file(about)
        for number, (commitment, salt, payload) in enumerate(payload_lines(path), 1):
            if commitment not in self.said:
                continue  # of an append that never finished
            if commit(salt, payload) != commitment:
                raise UserError(
                    "This payload is not the one that was committed to",
                    file=path,
                    row=number,
                    remedy=NOT_WHOLE,
                )
            found[commitment] = json.loads(payload)
        return found

    def payload_file(self, about: Event | Statement | str) -> Path:
        """Where the payloads of a record lie."""
        record: str | None
        if isinstance(about, str):
            record = about
        else:
            record = None if about.event in ABOUT_THE_LOG else about.record
        if record is None:
            return self.path / "payloads" / "log.jsonl"
        return payload_file(self.path, record)

    # Appending

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else appends meanwhile; what an interrupted append left is cleared away."""
        with (self.path / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self.refresh()
            self._recover()
            yield

    def append(self, statements: Sequence[Statement]) -> list[Event]:
        """Append statements, all of them or an error; on return they are on the disk.

        Raises:
            UserError: A payload is not of its schema, a record is unknown, known already or
                erased, a signature is not its actor's, or the disk is full.
        """
        if not statements:
            return []
        with self.locked():
            self._check(statements)
            return self._append(statements)

    def _append(self, statements: Sequence[Statement]) -> list[Event]:
        files: dict[Path, list[bytes]] = {}
        events: list[Event] = []
        prev = self.head
        for said in statements:
            event = place(said, len(self._events) + len(events), prev)
            prev = event.hash
            events.append(event)
            line = b"%s %s %s\n" % (
                said.commitment.encode(), said.salt.hex().encode(), said.payload_bytes,
            )  # fmt: skip
            files.setdefault(self.payload_file(said), []).append(line)
        pending = [str(path.relative_to(self.path)) for path in files]
        with full_disk_named(self.path):
            atomic_write(self.path / PENDING, "\n".join(pending))
            for path, lines in files.items():
                path.parent.mkdir(exist_ok=True)
                append(path, b"".join(lines))
            for folder in {path.parent for path in files} | {self.path / "payloads", self.path}:
                sync_folder(folder)
            append(self.log, b"".join(event.line for event in events))
        (self.path / PENDING).unlink()
        self.refresh()
        return events

    def _recover(self) -> None:
        pending = self.path / PENDING
        whole = cut_to_lines(self.log)
        if whole and not pending.exists():
            return
        if pending.exists():
            for name in pending.read_text(encoding="utf-8").split("\n"):
                path = self.path / name
                if not path.exists():
                    continue
                cut_to_lines(path)
                data = path.read_bytes()
                lines = data.splitlines(keepends=True)
                kept = [line for line in lines if line[:64].decode() in self.said]
                if not kept:
                    path.unlink()
                elif len(kept) < len(lines):
                    atomic_write(path, b"".join(kept))
            pending.unlink()

    def _check(self, statements: Sequence[Statement]) -> None:
        register = self.register
        new: set[str] = set()
        for number, said in enumerate(statements, 1):
            shape = fault("event", json.loads(place(said, 0, GENESIS).line))
            wrong = shape or said.fault() or self._misplaced(said, new)
            if wrong is None and said.signature is not None:
                wrong = register.fault(said.signature, said.actor, said.message)
            if wrong:
                raise UserError(
                    f"The {said.event} event of record {said.record} cannot be appended: {wrong}",
                    row=number if len(statements) > 1 else None,
                    remedy="if the key is right: primum trust enrol KEY.pub"
                    if "nobody's" in wrong
                    else None,
                )
            new |= {said.commitment} | ({said.record or ""} if said.event == "create" else set())

    def _misplaced(self, said: Statement, new: set[str]) -> str | None:
        if said.commitment in self.said or said.commitment in new:
            return "it was said before, word for word and with the same salt"
        if said.event == "merge":
            return None
        known = said.record in self.records or said.record in new
        if said.event == "create" and known:
            return "this record exists already"
        if said.event != "create" and not known:
            return "there is no such record"
        if said.record in self.erased:
            return "this record was erased"
        return None

    # What was written out of the store

    def hold(self, kind: str, path: str | Path, **facts: Any) -> None:
        """Remember a file outside that holds rows of this store."""
        row = {"kind": kind, "path": str(Path(path).absolute()), "ts": now()} | facts
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cut_to_lines(self.path / HOLDERS)
            append(self.path / HOLDERS, json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def holders(self) -> list[dict[str, Any]]:
        """Files that were written out of the store, the latest entry of each."""
        rows = map(json.loads, whole_lines(self.path / HOLDERS))
        return list({row["path"]: row for row in rows}.values())


def payload_file(store: Path, record: str) -> Path:
    """Where a record's payloads lie in a store."""
    shelf = hashlib.sha256(record.encode()).hexdigest()[:2]
    return store / "payloads" / shelf / f"{record}.jsonl"


def payload_lines(path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Commitment, salt and canonical payload of each whole line; nothing if there is no file."""
    for number, line in enumerate(whole_lines(path), 1):
        parts = line.split(b" ", 2)
        try:
            yield parts[0].decode(), bytes.fromhex(parts[1].decode()), parts[2]
        except (IndexError, ValueError):
            raise UserError(
                "This line holds no payload", file=path, row=number, remedy=NOT_WHOLE
            ) from None
