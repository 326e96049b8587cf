"""Can a published table be true? Cells beyond their scale, means unequal to their parts, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from primum.errors import UserError


@dataclass(frozen=True)
class Scale:
    """Cells of these columns lie between two ends."""

    columns: Sequence[str]
    lowest: float
    highest: float

    def faults(self, row: Mapping[str, str]) -> list[tuple[str, str]]:
        """Cells that cannot be, with the reason."""
        return [
            (column, f"{row[column]} is not on a scale from {self.lowest:g} to {self.highest:g}")
            for column in self.columns
            if column in row and not self.lowest <= float(row[column]) <= self.highest
        ]


@dataclass(frozen=True)
class MeanOf:
    """A cell is the plain mean of others, as far as their rounding lets one see."""

    column: str
    parts: Sequence[str]

    def faults(self, row: Mapping[str, str]) -> list[tuple[str, str]]:
        """The cell, if no values that round to the parts have a mean that rounds to it."""
        if self.column not in row or any(part not in row for part in self.parts):
            return []
        mean = mean_of(row, self.parts)
        slack = half_step(row[self.column]) + max(half_step(row[part]) for part in self.parts)
        if abs(Decimal(row[self.column]) - mean) <= slack:
            return []
        cells = ", ".join(row[part] for part in self.parts)
        return [
            (self.column, f"{row[self.column]} is not the mean of {cells}, which is {mean:.3f}")
        ]


@dataclass(frozen=True)
class CountOf:
    """A percentage is a whole number of n items."""

    columns: Sequence[str]
    n: int

    def faults(self, row: Mapping[str, str]) -> list[tuple[str, str]]:
        """Percentages that no number of right answers gives."""
        found = []
        for column in self.columns:
            if column not in row:
                continue
            nearest = round(float(row[column]) * self.n / 100)
            gap = abs(Decimal(row[column]) - Decimal(100 * nearest) / self.n)
            if gap > half_step(row[column]):
                found.append((column, f"{row[column]} % is no whole number of {self.n} items"))
        return found


RULES = {"scale": Scale, "mean_of": MeanOf, "count_of": CountOf}


@dataclass(frozen=True)
class Fault:
    """A cell that cannot be true, and why."""

    row: str
    column: str
    reason: str

    def __str__(self) -> str:
        return f"{self.row}, {self.column}: {self.reason}"


@dataclass(frozen=True)
class PublishedTable:
    """A table as it was printed: cells stay text, since their digits carry their rounding.

    Attributes:
        rows: Row -> column -> cell.
        rules: What must hold.
        means: Columns that are recomputed for the reader, by the column they should equal.
    """

    title: str
    rows: Mapping[str, Mapping[str, str]]
    rules: Sequence[Scale | MeanOf | CountOf]
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def faults(self) -> list[Fault]:
        """Every cell that breaks a rule."""
        return [
            Fault(name, column, reason)
            for name, row in self.rows.items()
            for rule in self.rules
            for column, reason in rule.faults(row)
        ]

    def recomputed(self) -> dict[str, dict[str, Decimal]]:
        """Row -> column -> mean of its parts, unrounded."""
        return {
            name: {
                column: mean_of(row, parts)
                for column, parts in self.means.items()
                if all(part in row for part in parts)
            }
            for name, row in self.rows.items()
        }


def mean_of(row: Mapping[str, str], parts: Sequence[str]) -> Decimal:
    """The plain mean of some cells."""
    return sum((Decimal(row[part]) for part in parts), Decimal(0)) / len(parts)


def half_step(cell: str) -> Decimal:
    """Half of the last digit's step: as far as rounding can have moved a cell.

    >>> half_step("1.12"), half_step("7")
    (Decimal('0.005'), Decimal('0.5'))
    """
    digits = len(cell.partition(".")[2])
    return Decimal(5).scaleb(-digits - 1)


def read_tables(path: str | Path) -> list[PublishedTable]:
    """Tables and their rules from a YAML file; see `published/safemed_r1.yaml`.

    Raises:
        UserError: The file is missing or malformed, or a cell is no number.
    """
    import yaml

    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError("There is no such file of tables", file=path)
    try:
        # every scalar stays text: 1.10 is not 1.1
        content = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
        return [_table(one) for one in content["tables"]]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"This is no file of tables: {error!r}", file=path) from None


def _table(content: Mapping[str, Any]) -> PublishedTable:
    columns = content.get("columns") or []
    rows = {}
    for name, cells in content["rows"].items():
        row = dict(zip(columns, cells, strict=True)) if isinstance(cells, list) else dict(cells)
        rows[name] = {column: cell for column, cell in row.items() if cell not in ("", "-", "null")}
        for cell in rows[name].values():
            Decimal(cell)
    rules: list[Any] = []
    means = {}
    for rule in content.get("rules", []):
        options = dict(rule)
        kind = options.pop("rule")
        numbers = {key: (int if key == "n" else float)(value) for key, value in options.items()
                   if key in ("lowest", "highest", "n")}  # fmt: skip
        rules.append(RULES[kind](**(options | numbers)))
        if kind == "mean_of":
            means[options["column"]] = options["parts"]
    return PublishedTable(content["title"], rows, rules, means)
