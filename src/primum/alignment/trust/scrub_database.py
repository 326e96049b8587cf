"""Takes a record's words out of a SQLite file, such as a judge's cache of replies."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

MAGIC = b"SQLite format 3\0"


def is_database(file: Path) -> bool:
    """Does the file begin as SQLite's do?"""
    with file.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def cells(file: Path) -> Iterator[str]:
    """Every text in every table."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as opened:
        for table, column in _columns(opened):
            for (value,) in opened.execute(f"SELECT {column} FROM {table}"):
                if isinstance(value, str | bytes):
                    yield value if isinstance(value, str) else value.decode("utf-8", "replace")


def blot(file: Path, mask: Callable[[str], str]) -> None:
    """Mask every text, then write the file anew so that no free page keeps the old words.

    Raises:
        sqlite3.Error: Damaged, locked by somebody, or a column that must be unique no longer is.
    """
    with closing(sqlite3.connect(file, timeout=10)) as opened:
        with opened:
            for table, column in _columns(opened):
                old = opened.execute(
                    f"SELECT DISTINCT {column} FROM {table} WHERE typeof({column}) = 'text'"
                ).fetchall()
                for (value,) in old:
                    if (new := mask(value)) != value:
                        opened.execute(
                            f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, value)
                        )
        opened.execute("VACUUM")
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _columns(opened: sqlite3.Connection) -> list[tuple[str, str]]:
    """Table and column names, quoted for SQL."""
    found = opened.execute(
        "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c "
        "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return [(_quoted(table), _quoted(column)) for table, column in found]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
