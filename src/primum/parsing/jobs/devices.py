"""One job on several devices of this machine: a process each, every one with its own share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from primum.errors import UserError
from primum.files import atomic_write
from primum.jobs.index import read_index
from primum.jobs.shards import Shard, divided
from primum.parsing.jobs.exports import latest
from primum.parsing.jobs.index import Entry

LOOK = 1.0  # seconds between two looks at the index


def devices(text: str) -> list[str]:
    """Devices of a list, or so many GPUs.

    >>> devices("cuda:0,cuda:2"), devices("2"), devices("cpu,cpu")
    (['cuda:0', 'cuda:2'], ['cuda:0', 'cuda:1'], ['cpu', 'cpu'])
    """
    if text.isdigit() and int(text):
        return [f"cuda:{number}" for number in range(int(text))]
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found or text.isdigit():
        raise UserError(f"{text!r} names no devices", remedy="--devices 4, or cuda:0,cuda:1")
    return found


def run_on(
    names: Sequence[str],
    arguments: Sequence[str],
    folder: Path,
    shard: Shard,
    tell: Callable[[list[Entry]], None],
) -> int:
    """Read a job with a process a device.

    Args:
        names: Devices; the same one twice is two processes.
        arguments: Of `primum parse`, without devices and shard.
        folder: Of the output.
        shard: This machine's, divided among the processes.
        tell: Called about once a second with all entries of the folder.

    Returns:
        2 if a process could not do its work, else 1 if a page failed, else 0.
    """
    logs = [folder / f".device-{number}.log" for number in range(len(names))]
    folder.mkdir(parents=True, exist_ok=True)
    started = []
    for name, (number, count), log in zip(names, divided(shard, len(names)), logs, strict=True):
        command = [
            sys.executable, "-m", "primum.cli", "parse", *arguments,
            "--device", name, "--shard", f"{number + 1}/{count}", "--no-report",
        ]  # fmt: skip
        threads = max(1, (os.cpu_count() or 1) // len(names))
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        with log.open("wb") as stream:
            started.append(subprocess.Popen(command, stdout=stream, stderr=stream, env=environment))
    try:
        while any(one.poll() is None for one in started):
            time.sleep(LOOK)
            tell(read_index(folder, Entry))
    except BaseException:
        for one in started:
            one.terminate()
        for one in started:
            one.wait()
        raise
    codes = [one.returncode for one in started]
    for code, name, log in zip(codes, names, logs, strict=True):
        if code not in (0, 1):
            last = log.read_text("utf-8", errors="replace").strip().splitlines()[-3:]
            raise UserError(
                f"The process on {name} ended early: {' '.join(last)}",
                file=log,
                remedy="run the same command again: finished pages are kept",
            )
        log.unlink()
    return max(codes)


def merge(folder: Path) -> int:
    """Put the indexes of all shards into one, in the order of the pages' names.

    Returns:
        How many pages there are.
    """
    entries = latest(folder)
    lines = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
    atomic_write(folder / "index.jsonl", lines)
    for part in folder.glob("index-*-of-*.jsonl"):
        part.unlink()
    return len(entries)
