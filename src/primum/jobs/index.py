"""One line a finished file, appended and on disk before the next file begins."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from primum.errors import UserError
from primum.files import full_disk_named
from primum.jobs.shards import Shard


class Keyed(Protocol):
    """A dataclass that says what came of a file."""

    @property
    def key(self) -> str: ...

    @property
    def status(self) -> str: ...


E = TypeVar("E", bound=Keyed)


class Index(Generic[E]):
    """The append-only list of finished files of one shard.

    A last line that a kill tore is cut off; the file is locked while a job writes to it.

    Args:
        folder: Of the output.
        kind: The dataclass of an entry; its `key` is of content and settings, so that the same
            work is never done twice.
        shard: (number, count); each shard writes a file of its own.
    """

    def __init__(self, folder: Path, kind: type[E], shard: Shard = (0, 1)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number, count = shard
        name = "index.jsonl" if count == 1 else f"index-{number + 1:03d}-of-{count:03d}.jsonl"
        self.folder, self.kind, self.path = folder, kind, folder / name
        self.stream = self.path.open("ab+")
        try:
            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.stream.close()
            raise UserError(
                "Another job is writing here", file=self.path, remedy="wait for it, or end it"
            ) from None
        whole = self.path.read_bytes().rfind(b"\n") + 1
        if whole != self.path.stat().st_size:
            self.stream.truncate(whole)

    def append(self, entry: E) -> None:
        """Write an entry and wait until it is on the disk."""
        content: Any = entry
        with full_disk_named(self.path):
            line = json.dumps(asdict(content), ensure_ascii=False) + "\n"
            self.stream.write(line.encode(errors="surrogateescape"))
            self.stream.flush()
            os.fsync(self.stream.fileno())

    def close(self) -> None:
        """Release the file."""
        self.stream.close()

    def done(self, again: Collection[str] = ()) -> dict[str, E]:
        """Finished files of all shards by key, the latest entry of each; without some statuses."""
        found = {entry.key: entry for entry in read_index(self.folder, self.kind)}
        return {key: entry for key, entry in found.items() if entry.status not in again}


def read_index(folder: Path, kind: type[E]) -> list[E]:
    """All entries of a folder's shards.

    Raises:
        UserError: A line in the middle is damaged.
    """
    entries = []
    for path in sorted(folder.glob("index*.jsonl")):
        data = path.read_bytes()
        for row, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
            try:
                entries.append(kind(**json.loads(line.decode(errors="surrogateescape"))))
            except (ValueError, TypeError) as error:
                raise UserError(f"This line is damaged: {error}", file=path, row=row) from None
    return entries
