"""One line a finished page, appended and on disk before the next page begins."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from primum.errors import UserError
from primum.files import full_disk_named

Status = Literal["ok", "blank", "truncated", "looped", "timeout", "fallback", "failed"]


@dataclass(frozen=True)
class Entry:
    """What came of a page.

    Attributes:
        key: Content of the page, weights and settings: the same key is never read twice.
        name: Of the page, as its output files are called.
        status: `ok`; `blank`: nothing is printed there; `truncated`: cut at the length cap;
            `looped`: cut while repeating itself; `timeout`: cut by the clock; `fallback`: drafting
            failed and the page was read plainly; `failed`: nothing was read.
        tokens: Of the output.
        forwards: Of the model.
        seconds: For drafting and decoding.
        reason: Why it is not `ok`.
    """

    key: str
    name: str
    status: Status
    tokens: int = 0
    forwards: int = 0
    seconds: float = 0.0
    reason: str = ""


class Index:
    """The append-only list of finished pages of one shard.

    A last line that a kill tore is cut off; the file is locked while a job writes to it.

    Args:
        folder: Of the output.
        shard: (number, count); each shard writes a file of its own.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] = (0, 1)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number, count = shard
        name = "index.jsonl" if count == 1 else f"index-{number + 1:03d}-of-{count:03d}.jsonl"
        self.folder, self.path = folder, folder / name
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

    def append(self, entry: Entry) -> None:
        """Write an entry and wait until it is on the disk."""
        with full_disk_named(self.path):
            self.stream.write((json.dumps(asdict(entry), ensure_ascii=False) + "\n").encode())
            self.stream.flush()
            os.fsync(self.stream.fileno())

    def close(self) -> None:
        """Release the file."""
        self.stream.close()

    def done(self, again: Collection[Status] = ()) -> dict[str, Entry]:
        """Finished pages of all shards by key, the latest entry of each; without some statuses."""
        found = {entry.key: entry for entry in read_index(self.folder)}
        return {key: entry for key, entry in found.items() if entry.status not in again}


def read_index(folder: Path) -> list[Entry]:
    """All entries of a folder's shards.

    Raises:
        UserError: A line in the middle is damaged.
    """
    entries = []
    for path in sorted(folder.glob("index*.jsonl")):
        data = path.read_bytes()
        for row, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
            try:
                entries.append(Entry(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise UserError(f"This line is damaged: {error}", file=path, row=row) from None
    return entries
