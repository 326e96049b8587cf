"""What differs between the run that is resumed and the one that resumes it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import primum

EXPECTED = ("resume", "run_id", "paths")  # differ between any two runs
ABSENT = "(absent)"


@dataclass(frozen=True)
class Changes:
    """Settings that differ, `key -> (then, now)`, and the version that wrote the old ones."""

    version: str
    settings: dict[str, tuple[Any, Any]]


def changes(saved: Path, now: dict[str, Any]) -> Changes:
    """Compare a run's config.yaml with a resolved config.

    Paths inside the two runs' own folders, and their ids, count as equal.
    """
    text = saved.read_text(encoding="utf-8")
    written_by = re.match(r"# primum (\S+)", text)
    before = yaml.safe_load(text) or {}
    old, new = _flat(before), _flat(now)

    def nameless(value: Any, run: dict[str, Any]) -> Any:
        if not isinstance(value, str):
            return value
        for own in (run.get("paths.output"), run.get("run_id")):
            value = value.replace(str(own), "") if own else value
        return value

    differ = {}
    for key in sorted(set(old) | set(new)):
        if key.split(".")[0] in EXPECTED:
            continue
        then, today = old.get(key, ABSENT), new.get(key, ABSENT)
        if nameless(then, old) != nameless(today, new):
            differ[key] = (then, today)
    return Changes(written_by[1] if written_by else "unknown", differ)


def show(found: Changes) -> None:
    """Print the settings that differ; say so when a newer version changed nothing."""
    from rich.console import Console
    from rich.table import Table

    other = found.version != primum.__version__
    console = Console(stderr=True)
    if other:
        console.print(f"The run was made by primum {found.version}; this is {primum.__version__}.")
    if not found.settings:
        if other:
            console.print("No setting differs.")
        return
    table = Table("setting", "then", "now", title="Settings that differ from the resumed run")
    for key, (then, today) in found.settings.items():
        table.add_row(key, str(then), str(today))
    console.print(table)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict) and node:
        return {
            key: value
            for name, child in node.items()
            for key, value in _flat(child, f"{prefix}{name}.").items()
        }
    return {prefix.rstrip("."): node}
