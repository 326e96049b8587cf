"""Rows of the data files people have, each with the number by which its owner finds it."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.extras import require

Row = Mapping[str, Any]

FILES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


def read_rows(file: str | Path, *, by_key: tuple[str, str] | None = None) -> list[tuple[int, Row]]:
    """All rows of a file, or of a Hugging Face `save_to_disk` directory, with their numbers.

    Rows are counted from 1; of a CSV file, the header is row 1.

    Args:
        file: .jsonl, .ndjson, .json (a list), .csv or .parquet.
        by_key: Column names for key and value, where a .json file may be one object of such pairs.

    Raises:
        UserError: The file is missing, empty, of another kind, not UTF-8 or damaged, or a row has
            no named columns; the message names file, row and remedy.
    """
    file = Path(file).expanduser()
    if not file.exists():
        raise UserError("There is no such data file", file=file, remedy="check the path")
    rows = list(_rows(file, by_key))
    if not rows:
        raise UserError("This data file has no rows", file=file, remedy="check how it was made")
    for number, row in rows:
        if not isinstance(row, Mapping):
            raise UserError(
                f"A row is an object with named columns, not {kind_of(row)}",
                file=file,
                row=number,
                remedy="correct or remove the row",
            )
    return rows


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is what `datasets.Dataset.save_to_disk` leaves."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def kind_of(value: Any) -> str:
    """What a value is, in a user's words."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "empty"
    kinds = {str: "text", list: "a list", tuple: "a list", dict: "an object", bool: "true or false"}
    return kinds.get(type(value), "a number" if isinstance(value, (int, float)) else "no text")


def _rows(file: Path, by_key: tuple[str, str] | None) -> Iterator[tuple[int, Any]]:
    kind = file.suffix.lower()
    if file.is_dir():
        yield from _saved_dataset(file)
    elif kind in (".jsonl", ".ndjson"):
        for number, line in enumerate(_text(file).split("\n"), start=1):
            if line.strip():
                yield number, _json(line, file, number)
    elif kind == ".json":
        content = _json(_text(file), file)
        if by_key is not None and isinstance(content, dict):
            content = [dict(zip(by_key, pair, strict=True)) for pair in content.items()]
        if not isinstance(content, list):
            raise UserError(
                f"A .json data file holds one list of rows, not {kind_of(content)}",
                file=file,
                remedy="wrap the rows in [ ], or name it .jsonl if it has one row a line",
            )
        yield from enumerate(content, start=1)
    elif kind == ".csv":
        yield from _csv(file)
    elif kind == ".parquet":
        yield from _parquet(file)
    else:
        raise UserError(
            f"Data files end in {', '.join(FILES)}, not {file.suffix or 'nothing'}",
            file=file,
            remedy="convert it to one of these",
        )


def _text(file: Path) -> str:
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"This file is not UTF-8: byte {error.start} is {data[error.start]:#04x}",
            file=file,
            row=data.count(b"\n", 0, error.start) + 1,
            remedy=f"convert it: iconv -f LATIN1 -t UTF-8 {file.name} > utf8/{file.name}",
        ) from None


def _json(text: str, file: Path, row: int | None = None) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        line = row if row is not None else getattr(error, "lineno", None)
        raise UserError(
            f"This is not JSON: {error}",
            file=file,
            row=line,
            remedy="correct the line; each line of a .jsonl file is one whole JSON object"
            if file.suffix == ".jsonl"
            else "correct the file, or name it .jsonl if it has one object a line",
        ) from None


def _csv(file: Path) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
    number = 1
    try:
        for number, row in enumerate(reader, start=2):
            if None in row or None in row.values():
                raise UserError(
                    f"This row has not the header's {len(reader.fieldnames or [])} columns",
                    file=file,
                    row=number,
                    remedy="put quotes around text that holds commas or line breaks",
                )
            yield number, row
    except csv.Error as error:
        raise UserError(
            f"This is not CSV: {error}",
            file=file,
            row=number + 1,
            remedy="check the quotes around that row",
        ) from None


def _parquet(file: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"This Parquet file cannot be read: {error}",
            file=file,
            remedy="copy or download it again",
        ) from None
    yield from enumerate(table.to_pylist(), start=1)


def _saved_dataset(path: Path) -> Iterator[tuple[int, Row]]:
    datasets = require("datasets", "alignment")
    if (path / "dataset_dict.json").is_file():
        splits = [file.name for file in sorted(path.iterdir()) if is_saved_dataset(file)]
        raise UserError(
            "This directory holds several splits",
            file=path,
            remedy=f"give one of them: {', '.join(str(path / split) for split in splits)}",
        )
    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"This data set cannot be read: {error}", file=path) from None
    yield from enumerate(saved, start=1)
