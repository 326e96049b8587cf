"""Where behaviours come from: the twins, MedSafetyBench, HarmBench, AdvBench, any table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from primum.alignment.redteam.family import Behaviour
from primum.errors import UserError

REQUESTS = (
    "unsafe_request", "harmful_medical_request", "Behavior", "goal", "forbidden_prompt", "prompt",
    "question", "request",
)  # fmt: skip
IDS = ("pair", "BehaviorID", "id", "index")
TAGS = ("family", "principle", "category", "SemanticCategory", "severity")


def read_behaviours(
    path: str | Path, *, split: str | None = None, left_out: Sequence[str] = ()
) -> list[Behaviour]:
    """The behaviours of a JSONL, JSON or CSV file, or of every CSV file below a folder.

    Args:
        split: Of rows with a column `split`, only these.
        left_out: Categories that are not asked for (HarmBench's `chemical_biological`).

    Raises:
        UserError: The file is missing or malformed, or holds no request.
    """
    place = Path(path).expanduser()
    files = sorted(place.rglob("*.csv")) if place.is_dir() else [place]
    found: dict[str, Behaviour] = {}
    for file in files:
        for number, row in _rows(file):
            if split is not None and row.get("split", split) != split:
                continue
            request = next((row[name] for name in REQUESTS if row.get(name)), None)
            if request is None:
                raise UserError(
                    "This row has no request", file=file, row=number,
                    remedy=f"name its column one of {', '.join(REQUESTS)}",
                )  # fmt: skip
            tags = {name.lower(): str(row[name]) for name in TAGS if row.get(name)}
            if set(tags.values()) & set(left_out):
                continue
            given = next((str(row[name]) for name in IDS if row.get(name) not in (None, "")), "")
            stem = f"{file.parent.name}/{file.stem}" if place.is_dir() else file.stem
            identity = given if "pair" in row else f"{stem}:{given or number}"
            if identity in found:
                raise UserError(f"The id {identity!r} comes twice", file=file, row=number)
            found[identity] = Behaviour(identity, str(request).strip(), tags)
    if not found:
        raise UserError("There is no behaviour here", file=place)
    return list(found.values())


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not file.is_file():
        raise UserError("There is no such file of behaviours", file=file)
    try:
        if file.suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as stream:
                yield from enumerate(csv.DictReader(stream), 2)
        elif file.suffix == ".json":
            yield from enumerate(json.loads(file.read_text("utf-8")), 1)
        else:
            for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
                if line.strip():
                    yield number, json.loads(line)
    except (ValueError, csv.Error) as error:
        raise UserError(f"This file is damaged: {error}", file=file) from None
