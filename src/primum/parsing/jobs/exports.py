"""A finished job in the forms that other tools read: JSONL, Parquet, DoclingDocument JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from primum.errors import UserError
from primum.files import atomic_write
from primum.jobs.index import read_index
from primum.parsing.jobs.docling import document
from primum.parsing.jobs.index import Entry

Format = Literal["jsonl", "parquet", "docling"]
ROWS = 1000  # pages of a shard


def latest(folder: Path) -> list[Entry]:
    """The last entry of each page, in the order of their names.

    Raises:
        UserError: There is no index here.
    """
    found = {entry.name: entry for entry in read_index(folder, Entry)}
    if not found:
        raise UserError(
            "No pages were read into this folder", file=folder, remedy="primum parse INPUT -o DIR"
        )
    return sorted(found.values(), key=lambda entry: natural(entry.name))


def natural(name: str) -> list[Any]:
    """A key that puts page 10 behind page 9.

    >>> sorted(["b10", "b9"], key=natural)
    ['b9', 'b10']
    """
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def page_of(folder: Path, entry: Entry) -> dict[str, Any]:
    """A page's JSON; empty where none was written."""
    file = folder / f"{entry.name}.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """One row a page: what the index says and what was written."""
    for entry in latest(folder):
        page = page_of(folder, entry)
        yield {
            **asdict(entry),
            "file": page.get("file", ""),
            "page": page.get("page"),
            "width": page.get("width"),
            "height": page.get("height"),
            "markdown": page.get("markdown", ""),
            "blocks": page.get("blocks", []),
        }


def export(folder: Path, form: Format, size: int = ROWS) -> list[Path]:
    """Write a job's pages; files of an earlier export are replaced.

    Args:
        folder: Of the job.
        form: One JSON object a line, Parquet, or a DoclingDocument a file that was read.
        size: Pages of a shard.

    Returns:
        The files.
    """
    if form == "docling":
        return docling(folder)
    for old in folder.glob(f"pages-*.{form}"):
        old.unlink()
    files: list[Path] = []
    part: list[dict[str, Any]] = []
    for row in rows(folder):
        part.append(row)
        if len(part) == size:
            files.append(shard(folder, form, len(files), part))
            part = []
    if part:
        files.append(shard(folder, form, len(files), part))
    return files


def shard(folder: Path, form: Format, number: int, part: Sequence[dict[str, Any]]) -> Path:
    """One file of pages."""
    file = folder / f"pages-{number:05d}.{form}"
    if form == "jsonl":
        atomic_write(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part))
        return file
    import pyarrow as pa
    import pyarrow.parquet as pq

    block = pa.struct(
        [("category", pa.string()), ("box", pa.list_(pa.float64())), ("text", pa.string())]
    )
    typed = {"page": pa.int64(), "width": pa.int64(), "height": pa.int64()}
    columns = {
        name: pa.array(
            [row[name] for row in part], pa.list_(block) if name == "blocks" else typed.get(name)
        )
        for name in part[0]
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    atomic_write(file, sink.getvalue().to_pybytes())
    return file


def docling(folder: Path) -> list[Path]:
    """A DoclingDocument a picture or PDF."""
    files = []

    def source(entry: Entry) -> str:
        return re.sub(r"(\.pdf|\.tiff?)/\d+$", r"\1", entry.name, flags=re.IGNORECASE)

    for name, entries in groupby(latest(folder), key=source):
        pages = [page for entry in entries if (page := page_of(folder, entry))]
        if pages:
            file = folder / f"{name}.docling.json"
            atomic_write(file, json.dumps(document(Path(name).name, pages), ensure_ascii=False))
            files.append(file)
    return files
