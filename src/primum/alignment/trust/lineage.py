"""Which training run read which rows, and so which checkpoints did.

A run's ledger is `lineage.jsonl` in its folder, with a copy in the store: one header, then one line
for each range of optimizer steps. Nothing is ever taken out of it: a run that was set back to an
earlier checkpoint reads on under the next `attempt`, and a checkpoint counts as having seen all
that was read up to its step in any attempt.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primum.alignment.trust.appending import whole_lines
from primum.alignment.trust.store import Store
from primum.checkpoints.manifest import FILE, Manifest, read_manifest
from primum.errors import UserError

SCHEMA = "cts-lineage/1"
LEDGER = "lineage.jsonl"
STEP = re.compile(r"step=?(\d+)")


@dataclass
class Run:
    """A training run's ledger.

    Attributes:
        header: `run_id`, `name`, `folder`, `store`, `head`, `count`, `view`, `view_sha256`,
            `config_sha256`, `base`.
        ranges: `attempt`, `epoch`, `from_step`, `to_step`, and `rows`: how often each was read.
        inherited: Runs whose weights this one began with.
    """

    file: Path
    header: dict[str, Any]
    ranges: list[dict[str, Any]]
    inherited: list[Run] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.header["run_id"]

    @property
    def folder(self) -> Path:
        """Where the run lies, or lay."""
        beside = self.file.parent
        return beside if (beside / "config.yaml").exists() else Path(self.header["folder"])

    def saw(self, step: int | None = None) -> Counter[str]:
        """How often each record was read up to a step (None: in all), by its forebears too."""
        rows: Counter[str] = Counter()
        for one in self.ranges:
            if step is None or one["from_step"] < step:
                rows.update(one["rows"])
        for run in self.inherited:
            rows.update(run.saw())
        return rows


@dataclass(frozen=True)
class Checkpoint:
    """Weights on disk, and the run and step they are of; `step` is None for its last."""

    path: Path
    run: Run
    step: int | None

    @property
    def saw(self) -> Counter[str]:
        """How often each record was read before these weights were written."""
        return self.run.saw(self.step)


def read_ledger(file: Path) -> Run:
    """Read a ledger; a last line that a crash tore is left out.

    Raises:
        UserError: It is no ledger.
    """
    try:
        lines = [json.loads(line) for line in whole_lines(file)]
        assert lines[0]["schema"] == SCHEMA and isinstance(lines[0]["run_id"], str)
        ranges = [one for one in lines[1:] if "rows" in one]
        assert all(isinstance(one["from_step"], int) for one in ranges)
        return Run(file, lines[0], ranges)
    except (ValueError, KeyError, IndexError, TypeError, AssertionError):
        raise UserError("This is no lineage of a training run", file=file) from None


def runs(store: Store, roots: Iterable[str | Path] = ()) -> list[Run]:
    """Every run that read from a store: those it was told of, and those that lie under `roots`.

    The same run's ledger in two places counts once, the longer one.
    """
    roots = list(roots)
    files = sorted((store.path / "lineage").glob("*.jsonl"))
    for root in roots:
        files += sorted(Path(root).expanduser().rglob(LEDGER))
    found: dict[str, Run] = {}
    for file in files:
        run = read_ledger(file)
        known = found.get(run.id)
        if known is None or len(run.ranges) >= len(known.ranges):
            found[run.id] = run
    every = list(found.values())
    _inherit(every, _weights(every, roots))
    return every


def _weights(found: Sequence[Run], roots: Iterable[str | Path]) -> dict[str, str]:
    """The run that made a weights file, by the file's SHA-256, from the manifests there are."""
    owners: dict[str, str] = {}
    for manifest, _ in _manifests(found, roots):
        for name, digest in manifest.weights["files"].items():
            if name.endswith(".safetensors"):
                owners[digest] = manifest.run_id
    return owners


def _manifests(found: Sequence[Run], roots: Iterable[str | Path]) -> list[tuple[Manifest, Path]]:
    files = {run.folder / FILE for run in found}
    for root in roots:
        files |= set(Path(root).expanduser().rglob(FILE))
    read = []
    for file in sorted(files):
        try:
            read.append((read_manifest(file), file))
        except UserError:
            continue  # of something else, or of a run that has not ended
    return read


def _inherit(found: Sequence[Run], owners: dict[str, str]) -> None:
    by_id = {run.id: run for run in found}
    for run in found:
        files = ((run.header.get("base") or {}).get("files") or {}).values()
        before = {owners[digest] for digest in files if digest in owners} - {run.id}
        run.inherited = [by_id[name] for name in sorted(before) if name in by_id]


def checkpoints(
    store: Store, roots: Iterable[str | Path] = (), found: Sequence[Run] | None = None
) -> list[Checkpoint]:
    """Weights on disk that learned from a store: Lightning's, a run's model, exports, children."""
    roots = list(roots)
    found = runs(store, roots) if found is None else found
    by_id = {run.id: run for run in found}
    owners = _weights(found, roots)
    listed: list[Checkpoint] = []
    for run in found:
        for path in sorted(run.folder.rglob("*.ckpt")):
            if not path.is_symlink():
                listed.append(Checkpoint(path, run, step_of(path)))
    for manifest, file in _manifests(found, roots):
        directory = file.parent / (manifest.weights.get("directory") or ".")
        base = ((manifest.base or {}).get("files") or {}).values()
        if manifest.run_id in by_id:
            listed.append(Checkpoint(directory, by_id[manifest.run_id], None))
            continue
        for name in {owners[digest] for digest in base if digest in owners} & set(by_id):
            listed.append(Checkpoint(directory, by_id[name], None))
    return listed


def step_of(path: Path) -> int | None:
    """The optimizer step a checkpoint's name tells; None if it tells none."""
    found = STEP.search(path.resolve().stem)
    return int(found[1]) if found else None


def who_saw(
    store: Store, record: str, roots: Iterable[str | Path] = ()
) -> tuple[list[Checkpoint], list[Run]]:
    """Checkpoints that read a record, and runs that did of which no checkpoint is left here."""
    roots = list(roots)
    found = runs(store, roots)
    listed = [one for one in checkpoints(store, roots, found) if one.saw[record]]
    left = {one.run.id for one in listed}
    return listed, [run for run in found if run.saw()[record] and run.id not in left]


def unwanted(store: Store, rows: Iterable[str]) -> dict[str, str]:
    """Which of these records were revoked or erased since, and which of the two."""
    revoked = {event.record for event in store.events if event.event == "revoke"}
    found = {row: "revoked" for row in rows if row in revoked}
    return found | {row: "erased" for row in rows if row in store.erased}


def lineage_of(store: Store, path: str | Path, roots: Iterable[str | Path] = ()) -> Checkpoint:
    """The checkpoint at a path (a .ckpt, a model directory, or a run's folder).

    Raises:
        UserError: Nothing here says what it learned from.
    """
    path = Path(path).expanduser().resolve()
    near = path if path.is_dir() else path.parent
    for one in checkpoints(store, [*roots, near]):
        if one.path.resolve() == path:
            return one
    step = step_of(path) if path.suffix == ".ckpt" else None
    for folder in (near, *near.parents[:2]):
        for run in runs(store, [*roots, near]):
            if run.folder.resolve() == folder:
                return Checkpoint(path, run, step)
    raise UserError(
        "No lineage says what this checkpoint learned from",
        file=path,
        remedy="give the folder of runs with --runs, or train on a view: data=trust",
    )
