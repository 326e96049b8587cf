"""Erase a record: its words go, the chain stays, and everything that held them is named."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primum.alignment.trust.appending import sync_folder
from primum.alignment.trust.events import state
from primum.alignment.trust.keys import Key
from primum.alignment.trust.lineage import Checkpoint, Run, who_saw
from primum.alignment.trust.scrub import RUN, Words, holds, scrub
from primum.alignment.trust.store import Store, payload_lines
from primum.errors import UserError

# Values under these keys say where a row is from, not what somebody said.
NO_WORDS = ("source", "generator", "target", "judge", "rubric", "phi_screen", "parameters")
ALIKE = 0.1  # of a record's runs; beneath it lie greetings and other common phrases
OWN = ("log.jsonl", "payloads", "reviewers.json", "seals", "lineage", "holders.jsonl", "lock")


@dataclass
class Erasure:
    """What erasing a record did.

    Attributes:
        records: The record, and those derived from it.
        holders: `kind`, `path` and what was done, of each file that held it.
        checkpoints: Weights that learned from it; they cannot be scrubbed.
        runs: Runs that read it of which no weights are left here.
        left: Files that still hold its words, for somebody to delete.
        alike: Other records one of whose texts holds much of its words, and the share.
    """

    records: list[str]
    holders: list[tuple[str, Path, str]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    alike: dict[str, float] = field(default_factory=dict)


def erase(
    store: Store,
    record: str,
    reason: str,
    actor: dict[str, str] | Key,
    roots: Iterable[str | Path] = (),
) -> Erasure:
    """Destroy a record's words wherever the store knows them to be, and under `roots`.

    The event comes first and the payload's end last, so that an interrupted call can be repeated.

    Args:
        reason: Kept in the log for good; it must not repeat the words.
        actor: Who erases.
        roots: Folders of results, caches and reports, and files.

    Raises:
        UserError: There is no such record, it is erased already, or the reason repeats its words.
    """
    places = [Path(root).expanduser() for root in roots]
    if record not in store.records:
        raise UserError(f"There is no record {record}", file=store.path)
    if record in store.erased and not store.payload_file(record).exists():
        raise UserError(f"Record {record} was erased before", file=store.path)
    going = [record, *derived(store, record)]
    texts = [text for one in going for text in texts_of(store, one)]
    if Words([*texts]).are_in(reason):
        raise UserError(
            f"The reason repeats {RUN} characters of what is to be erased, and reasons are kept",
            remedy="say it in other words",
        )
    done = Erasure(going)
    others = sorted(store.records - store.erased - set(going))
    words = Words(texts, (said for one in others for said in texts_of(store, one, all_of_it=True)))
    own = Words(texts)
    alike = {one: max(map(own.share, texts_of(store, one)), default=0.0) for one in others}
    done.alike = {one: share for one, share in alike.items() if share >= ALIKE}
    store.append(
        [
            state("erase", one, {"reason": reason, **({"because_of": record} if n else {})}, actor)
            for n, one in enumerate(going)
            if one not in store.erased
        ]
    )
    for one in going:
        checkpoints, runs = who_saw(store, one, [one for one in places if one.is_dir()])
        done.checkpoints += [c for c in checkpoints if c not in done.checkpoints]
        done.runs += [run for run in runs if run.id not in {known.id for known in done.runs}]
    folders = [*places, *(c.run.folder for c in done.checkpoints), *(r.folder for r in done.runs)]
    _scrub(store, going, words, folders, done)
    with store.locked():
        for one in going:
            _destroy(store.payload_file(one))
    return done


def derived(store: Store, record: str) -> list[str]:
    """Records whose text carries on a record's text, at any remove."""
    parents: dict[str, list[str]] = {}
    for event in store.events:
        if event.event == "create":  # erased ones too, whose words an interrupted call left
            for parent in (store.payload(event) or {}).get("derived_from", ()):
                parents.setdefault(parent, []).append(str(event.record))
    found, todo = [], [record]
    while todo:
        for child in parents.get(todo.pop(), ()):
            if child not in found:
                found.append(child)
                todo.append(child)
    return found


def texts_of(store: Store, record: str, all_of_it: bool = False) -> Iterator[str]:
    """What was said by and about a record, in every payload of it; or every string there is."""
    for _, _, payload in payload_lines(store.payload_file(record)):
        yield from _texts(json.loads(payload), () if all_of_it else NO_WORDS)


def _texts(value: Any, without: Collection[str]) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if key not in without and not key.endswith("sha256"):
                yield from _texts(one, without)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, without)


def _scrub(
    store: Store, going: list[str], words: Words, folders: Iterable[Path], done: Erasure
) -> None:
    kinds = {Path(row["path"]): row["kind"] for row in store.holders()}
    own = [store.path.absolute() / name for name in OWN]
    for file in _files([*kinds, *folders, store.path]):
        if any(file == mine or mine in file.parents for mine in own):
            continue  # committed to, signed, or without words
        kind = kinds.get(file) or _kind(file)
        if kind == "review page" and any(map(_text(file).__contains__, going)):
            _destroy(file)
            done.holders.append((kind, file, "deleted: make it again with `primum trust assign`"))
            continue
        for one in going:
            what = scrub(file, one, words)
            if what == "left" or (what and holds(file, words)):
                done.left += [file] if file not in done.left else []
                what = "still holds its words: delete it"
            if what:
                done.holders.append((kind, file, what))


def _files(places: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for place in places:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        found |= {file.absolute(): None for file in files if file.is_file()}
    return list(found)


def _kind(file: Path) -> str:
    name = file.name.lower()
    if any("cache" in part.lower() for part in file.parts) or file.suffix == ".arrow":
        return "cache"
    if file.suffix == ".html" or name.startswith(("report", "compare", "governance")):
        return "report"
    if file.suffix == ".parquet" or name.startswith(("results", "part-", "predictions")):
        return "result"
    return "file"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _destroy(file: Path) -> None:
    """Overwrite, then remove. What the disk itself keeps of it is beyond a program's reach."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        stream.write(b"\0" * file.stat().st_size)
        stream.flush()
        os.fsync(stream.fileno())
    file.unlink()
    sync_folder(file.parent)
