"""Finds a record's words in files and takes them out, however the file spells them."""

from __future__ import annotations

import html
import json
import os
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from primum.alignment.trust.scrub_database import blot, cells, is_database
from primum.files import atomic_write

RUN = 20  # characters in a row that count as somebody's words
HALF = RUN // 2
MARK = "█"
WEIGHTS = (".ckpt", ".safetensors", ".gguf", ".pt", ".pth", ".bin", ".distcp")


class Words:
    """The runs of `RUN` characters of some texts, in every spelling files use.

    Args:
        texts: What must not be found any more.
        spared: Texts of other records, which may stay: what stands in them too is not looked for.
    """

    def __init__(self, texts: Iterable[str], spared: Iterable[str] = ()) -> None:
        texts = list(texts)
        self.plain = {run for text in texts for run in runs(text)}
        self.spellings = {one for text in texts for one in spellings(text) if len(one) >= RUN}
        self.runs = {run for one in self.spellings for run in runs(one)}
        shared: set[str] = set()
        for text in spared:
            if self.may_be_in(text):
                shared |= set(self.stretches(text))
        for stretch in shared:
            self.runs -= {run for one in spellings(stretch) for run in runs(one)}

    @cached_property
    def pieces(self) -> set[bytes]:
        """Every half run: each run in a file has one that begins at a multiple of its length."""
        spelled = [one.encode("utf-8", "surrogatepass") for one in self.spellings]
        return {one[i : i + HALF] for one in spelled for i in range(len(one) - HALF + 1)}

    def may_be_in(self, data: str | bytes) -> bool:
        """False only if none of the runs is there; quick."""
        raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
        return any(raw[i : i + HALF] in self.pieces for i in range(0, len(raw) - HALF + 1, HALF))

    def stretches(self, text: str) -> Iterator[str]:
        """The longest stretches of another text whose runs are all runs of these, as they are."""
        start = None
        for place, run in enumerate(runs(text)):
            if run in self.plain:
                start = place if start is None else start
            elif start is not None:
                yield text[start : place + RUN - 1]
                start = None
        if start is not None:
            yield text[start:]

    def share(self, text: str) -> float:
        """How much of the texts stands in another one: the share of their runs."""
        if not self.plain or not self.may_be_in(text):
            return 0.0
        return len(self.plain.intersection(runs(text))) / len(self.plain)

    def are_in(self, text: str) -> bool:
        """Is one of the runs there?"""
        return self.may_be_in(text) and any(run in self.runs for run in runs(text))

    def mask(self, text: str) -> str:
        """The text with every run blotted out.

        >>> Words(["my name is Ada Lovelace"]).mask("she said: my name is Ada Lovelace!")
        'she said: ███████████████████████!'
        """
        if not self.may_be_in(text):
            return text
        hidden = bytearray(len(text))
        for start, run in enumerate(runs(text)):
            if run in self.runs:
                hidden[start : start + RUN] = b"\x01" * RUN
        return "".join(MARK if out else sign for sign, out in zip(text, hidden, strict=True))


def runs(text: str) -> Iterator[str]:
    """Every `RUN` characters in a row."""
    return (text[i : i + RUN] for i in range(len(text) - RUN + 1))


def spellings(text: str) -> set[str]:
    r"""A text as JSON, HTML and JSON within either spell it.

    >>> r'\u00e9' in spellings("é"), "&#34;" in spellings('"')
    (True, True)
    """
    ascii_json = json.dumps(text)[1:-1]
    plain_json = json.dumps(text, ensure_ascii=False)[1:-1]
    found = {text, ascii_json, plain_json, json.dumps(ascii_json)[1:-1]}
    found |= {json.dumps(plain_json, ensure_ascii=False)[1:-1], text.replace('"', '""')}
    found |= {text.replace("'", "''"), html_json(plain_json), html_json(ascii_json)}
    for one in list(found):
        escaped = html.escape(one)
        found |= {escaped, escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")}
        found.add(html.escape(one, quote=False))
    return found


def html_json(spelled: str) -> str:
    """JSON as it may stand inside a script of an HTML page."""
    for sign in "<>&'":
        spelled = spelled.replace(sign, f"\\u{ord(sign):04x}")
    return spelled


def scrub(file: Path, record: str, words: Words) -> str | None:
    """Take a record out of a file.

    Returns:
        What was done; `left` if the words are there and this kind of file cannot be rewritten; None
        if nothing of the record was found.
    """
    suffix = file.suffix.lower()
    if suffix in WEIGHTS or file.is_symlink():
        return None
    if suffix == ".parquet":
        return _parquet(file, record, words)
    if suffix in (".zip", ".npz"):
        return "left" if _in_zip(file, words) else None
    if is_database(file):
        return _database(file, words)
    data = file.read_bytes()
    if suffix in (".gz", ".bz2", ".xz"):
        return "left" if words.may_be_in(_unpacked(data, suffix)) else None
    named = record.encode() in data and b"cts_id" in data
    if not named and not words.may_be_in(data):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _binary(file, data, words)
    if suffix in (".jsonl", ".ndjson"):
        new = "".join(_json_line(line, record, words) for line in text.splitlines(keepends=True))
    elif suffix == ".json":
        new = _json(text, record, words)
    else:
        new = words.mask(text)
    if new == text:
        return None
    mode = file.stat().st_mode
    atomic_write(file, new)
    file.chmod(mode)
    gone = text.count("\n") - new.count("\n") if suffix in (".jsonl", ".ndjson") else 0
    return f"{gone} rows taken out" if gone else "words blotted out"


def holds(file: Path, words: Words) -> bool:
    """Does the file hold a run still?"""
    suffix = file.suffix.lower()
    if suffix in WEIGHTS or file.is_symlink():
        return False
    if suffix in (".zip", ".npz"):
        return _in_zip(file, words)
    if suffix == ".parquet":
        return any(words.are_in(text) for text in _cells(file))
    if is_database(file):
        return _in_database(file, words)
    data = file.read_bytes()
    if suffix in (".gz", ".bz2", ".xz"):
        data = _unpacked(data, suffix)
    if not words.may_be_in(data):
        return False
    text = data.decode("utf-8", "replace")
    try:
        if suffix in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            return any(words.are_in(one) for one in _strings(rows))
        if suffix == ".json":
            return any(words.are_in(one) for one in _strings(json.loads(text)))
    except ValueError:
        pass
    return words.are_in(text)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _strings(key)
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def _json_line(line: str, record: str, words: Words) -> str:
    if not words.may_be_in(line) and record not in line:
        return line
    try:
        row = json.loads(line)
    except ValueError:
        return words.mask(line)
    if _about(row, record):
        return ""
    new = _masked(row, record, words)
    return line if new == row else json.dumps(new, ensure_ascii=False) + "\n"


def _json(text: str, record: str, words: Words) -> str:
    try:
        tree = json.loads(text)
    except ValueError:
        return words.mask(text)
    new = _masked(tree, record, words)
    if new == tree:
        return text
    indent = 2 if text.lstrip()[1:2] == "\n" else None
    return json.dumps(new, ensure_ascii=False, indent=indent) + "\n"


def _about(row: Any, record: str) -> bool:
    if not isinstance(row, dict):
        return False
    inner = [row, *(row[name] for name in ("extra", "tags") if isinstance(row.get(name), dict))]
    return any(one.get("cts_id") == record for one in inner)


def _masked(value: Any, record: str, words: Words) -> Any:
    if isinstance(value, str):
        return words.mask(value)
    if isinstance(value, list):
        return [_masked(one, record, words) for one in value if not _about(one, record)]
    if isinstance(value, dict):
        return {words.mask(key): _masked(one, record, words) for key, one in value.items()}
    return value


def _binary(file: Path, data: bytes, words: Words) -> str | None:
    """Blot words out in place, byte for byte: lengths and offsets of an Arrow file stay right."""
    if file.suffix.lower() not in (".arrow", ".feather", ".idx", ".log", ".txt"):
        return "left" if words.are_in(data.decode("utf-8", "replace")) else None
    hidden = bytearray(data)
    wanted: dict[bytes, list[bytes]] = {}
    for run in words.runs:
        spelled = run.encode("utf-8", "surrogatepass")
        wanted.setdefault(spelled[:HALF], []).append(spelled)
    for start in range(len(data) - RUN + 1):
        for run_bytes in wanted.get(data[start : start + HALF], ()):
            if data.startswith(run_bytes, start):
                hidden[start : start + len(run_bytes)] = b"x" * len(run_bytes)
    if bytes(hidden) == data:
        return None
    with file.open("rb+") as stream:
        stream.write(hidden)
        stream.flush()
        os.fsync(stream.fileno())
    return "words blotted out"


def _parquet(file: Path, record: str, words: Words) -> str | None:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(file)
    rows = table.to_pylist()
    kept = [_masked(row, record, words) for row in rows if not _about(row, record)]
    if kept == rows:
        return None
    partial = file.with_name(f".{file.name}.partial")
    try:
        parquet.write_table(pyarrow.Table.from_pylist(kept, schema=table.schema), partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    gone = len(rows) - len(kept)
    return f"{gone} rows taken out" if gone else "words blotted out"


def _database(file: Path, words: Words) -> str | None:
    if not _in_database(file, words):
        return None
    try:
        blot(file, words.mask)
    except sqlite3.Error:
        return "left"
    return "words blotted out"


def _in_database(file: Path, words: Words) -> bool:
    """In a cell; or, where the file cannot be read as tables or keeps deleted rows, anywhere."""
    try:
        if any(words.are_in(text) for text in cells(file)):
            return True
    except sqlite3.Error:
        pass
    return words.are_in(file.read_bytes().decode("utf-8", "replace"))


def _cells(file: Path) -> Iterator[str]:
    from pyarrow import parquet

    for row in parquet.read_table(file).to_pylist():
        yield json.dumps(row, ensure_ascii=False, default=str)


def _in_zip(file: Path, words: Words) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(
                words.are_in(archive.read(name).decode("utf-8", "replace"))
                for name in archive.namelist()
            )
    except (zipfile.BadZipFile, RuntimeError):
        return False


def _unpacked(data: bytes, suffix: str) -> bytes:
    import bz2
    import gzip
    import lzma

    try:
        return {".gz": gzip, ".bz2": bz2, ".xz": lzma}[suffix].decompress(data)
    except (OSError, EOFError, lzma.LZMAError):
        return b""
