"""One result row a case, appended so that a crash loses at most the batch under way."""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from primum.benchmarks.cases import Case
from primum.errors import UserError
from primum.files import full_disk_named

SCHEMA_VERSION = 1
MAPS = ("verdicts", "scores", "tags", "record")
BROKEN = "delete this folder and evaluate again"


@dataclass(frozen=True)
class Result:
    """One scored case.

    Attributes:
        case: Id of the case.
        prompt_sha256: Identity of what the candidate was shown.
        candidate: Name and fingerprint of who answered.
        answer: The text, or another JSON value that a benchmark's candidate gives.
        finish: `stop`, `length`, or what the candidate reports.
        seconds: Time for this answer; its share of the batch where several were made together.
        tokens: Length of the answer, where known.
        verdicts: What each judge said: name -> {label, evidence}.
        scores: Numbers and booleans, by the names that the benchmark's metrics read.
        tags: The case's tags, so that a results folder can be read by itself.
        record: What metrics read besides, as JSON holds it: counts, match tables.
    """

    case: str
    prompt_sha256: str
    candidate: str
    answer: Any
    finish: str | None = None
    seconds: float | None = None
    tokens: int | None = None
    verdicts: dict[str, dict[str, str]] = field(default_factory=dict)
    scores: dict[str, float | bool | None] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Result":
        """Read a row of this or an earlier schema; unknown fields are ignored.

        Raises:
            ValueError: The row is of a later schema, or lacks a field.
        """
        version = row.get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ValueError(f"schema_version is {version!r}, this release reads {SCHEMA_VERSION}")
        known = {key: value for key, value in row.items() if key in cls.__dataclass_fields__}
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(str(error)) from None


class ResultPart:
    """The append-only file of one rank.

    One line a result; a batch is one write and one fsync. A last line that a crash tore is cut off
    on opening. The file is locked while it is open, so that two evaluations cannot share it.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"part-{rank:05d}.jsonl"
        self.stream = self.path.open("ab+", buffering=0)  # a failed write leaves nothing to retry
        try:
            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.stream.close()
            raise UserError(
                "Another evaluation is writing to this file",
                file=self.path,
                remedy="wait for it, or end it",
            ) from None
        whole = whole_length(self.path)
        if whole != self.path.stat().st_size:
            self.stream.truncate(whole)

    def append(self, results: Iterable[Result]) -> None:
        """Write a batch and wait until it is on the disk.

        Raises:
            UserError: The disk is full; of this batch nothing was kept.
        """
        lines = [json.dumps(asdict(result), ensure_ascii=False) + "\n" for result in results]
        data, whole = "".join(lines).encode(), self.path.stat().st_size
        try:
            with full_disk_named(self.path):
                while data:
                    data = data[self.stream.write(data) :]
                os.fsync(self.stream.fileno())
        except BaseException:
            self.stream.truncate(whole)
            raise

    def close(self) -> None:
        """Release the file; one without a result is taken away, with its folders if empty."""
        if self.stream.closed:
            return
        if self.path.stat().st_size == 0:
            self.path.unlink()
            with suppress(OSError):  # another rank's, or another candidate's, stand there
                for folder in list(self.path.parents)[:4]:  # results, key, candidate, benchmark
                    folder.rmdir()
        self.stream.close()


def whole_length(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    return path.read_bytes().rfind(b"\n") + 1


def read_parts(folder: Path) -> dict[str, Result]:
    """Every result of a folder's parts by case id; a torn last line is left out.

    Raises:
        UserError: A line in the middle is damaged, or was written by a later release.
    """
    found: dict[str, Result] = {}
    for path in sorted(folder.glob("part-*.jsonl")):
        text = path.read_bytes()[: whole_length(path)]
        for number, line in enumerate(text.split(b"\n")[:-1], 1):
            try:
                result = Result.from_dict(json.loads(line))
            except (ValueError, AttributeError) as error:
                raise UserError(
                    f"This result cannot be read: {error}", file=path, row=number, remedy=BROKEN
                ) from None
            found.setdefault(result.case, result)
    return found


def in_order(cases: Sequence[Case], found: Mapping[str, Result], folder: Path) -> list[Result]:
    """The results in the order of the cases, each exactly once.

    Raises:
        UserError: One is missing, or belongs to another prompt.
    """
    missing = [case.id for case in cases if case.id not in found]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(cases)} cases have no result yet, {missing[0]!r} among them",
            file=folder,
            remedy="run the same command again: it goes on where it stopped",
        )
    for case in cases:
        if found[case.id].prompt_sha256 != case.prompt_sha256:
            raise UserError(
                f"The result of case {case.id!r} belongs to another prompt",
                file=folder,
                remedy=BROKEN,
            )
    return [found[case.id] for case in cases]


def write_parquet(results: Sequence[Result], path: Path) -> None:
    """All results as one Parquet file, which appears whole or not at all."""
    import pyarrow
    import pyarrow.parquet as parquet

    rows = []
    for result in results:
        row = asdict(result)
        # maps differ from case to case, and Parquet has no empty struct: JSON keeps them exact
        for name in MAPS:
            row[name] = json.dumps(row[name], ensure_ascii=False)
        if not isinstance(row["answer"], str):
            row["answer"] = json.dumps(row["answer"], ensure_ascii=False)
        rows.append(row)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with full_disk_named(path):
            parquet.write_table(pyarrow.Table.from_pylist(rows), partial)
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_parquet(path: Path) -> list[Result]:
    """Read back what `write_parquet` wrote.

    Raises:
        UserError: It is not such a file.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        rows = parquet.read_table(path).to_pylist()
        for row in rows:
            for name in MAPS:
                row[name] = json.loads(row.get(name) or "{}")  # earlier releases lack the last
        return [Result.from_dict(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowInvalid) as error:
        raise UserError(f"These results cannot be read: {error}", file=path) from None
