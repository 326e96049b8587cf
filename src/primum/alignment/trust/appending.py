"""Files that only grow, line by line, and survive a kill at any moment."""

from __future__ import annotations

import os
from pathlib import Path


def append(path: Path, data: bytes) -> None:
    """Add whole lines and wait until they are on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def whole_lines(path: Path) -> list[bytes]:
    """The lines that are complete, without their ends; none if there is no file."""
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]


def cut_to_lines(path: Path) -> bool:
    """Cut a last line that a crash tore; False if there was one."""
    if not path.exists():
        return True
    with path.open("rb+") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size == 0:
            return True
        stream.seek(size - 1)
        if stream.read(1) == b"\n":
            return True
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.flush()
        os.fsync(stream.fileno())
    return False


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
