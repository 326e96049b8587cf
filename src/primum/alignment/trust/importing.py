"""Rows from elsewhere become create events, with what else is known of them."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primum.alignment.trust import edits
from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.events import Statement, now, state
from primum.alignment.trust.keys import Key
from primum.alignment.trust.records import Record, records
from primum.alignment.trust.schema import FIVE, RUBRIC, fault
from primum.alignment.trust.store import Store
from primum.errors import UserError
from primum.files import sha256
from primum.language.chat import THINKING
from primum.language.formats import Conversation, read_conversations

STAR1 = ("Content_Safety_Compliance", "Relevancy_and_No_Redundant_Content")
CURATOR = {"id": "importer", "role": "curator"}


@dataclass(frozen=True)
class Imported:
    """Rows that became records, rows that were there already, and scores and edits with them."""

    created: int
    known: int
    scores: int = 0
    edits: int = 0


@dataclass(frozen=True)
class Origin:
    """What a data file does not say of itself.

    Args:
        dataset, split, licence: As the record's source names them.
        bucket: `knowledge`, `guard` or `ethic`.
        kind: `unsafe` or `benign`, for all rows; a column `kind` says it for each.
        lang: Language tag.
        generator: The model that wrote the answers, if one did.
    """

    dataset: str
    licence: str
    bucket: str
    split: str | None = None
    kind: str | None = None
    lang: str | None = None
    generator: str | None = None


def known_origin(path: Path, format: str = "auto") -> dict[str, str]:
    """What need not be said of MedSafetyBench and STAR-1: they are known by their columns."""
    first = read_conversations(path, format)[0]
    if _is_star1(first.extra):
        return {"dataset": "STAR-1", "licence": "Apache-2.0", "bucket": "guard"}
    head = Path(first.file).read_bytes()[:4096]
    if b"harmful_medical_request" in head or path.name.startswith("ft_safety_med"):
        return {"dataset": "MedSafetyBench", "licence": "MIT", "bucket": "guard", "kind": "unsafe"}
    return {"dataset": path.stem}


def import_rows(
    store: Store,
    path: str | Path,
    origin: Origin,
    format: str = "auto",
    actor: dict[str, str] | Key | None = None,
) -> Imported:
    """Import conversations in any format `primum data preview` reads.

    The last answer is the record's text; `<think>` in it becomes its reasoning. A preference pair
    becomes the rejected answer with an edit to the chosen one. STAR-1's scores become a score event
    by the model that gave them. A row that is in the store already is left out, so that an
    interrupted import can be repeated.

    Raises:
        UserError: A row is malformed; the message names file and row.
    """
    path = Path(path).expanduser()
    conversations = read_conversations(path, format)
    there = {fingerprint(record.row) for record in records(store).values()}
    digests = {file: sha256(file) for file in {one.file for one in conversations}}
    statements: list[Statement] = []
    known = scores = changed = 0
    for one in conversations:
        created = _created(one, origin, digests[one.file])
        if fingerprint(created) in there:
            known += 1
            continue
        there.add(fingerprint(created))
        record = str(uuid.uuid4())
        own = [state("create", record, created, actor or CURATOR)]
        own += [state("score", record, *scored) for scored in _scored(one, created)]
        scores += len(own) - 1
        if one.rejected is not None:
            own.append(_preferred(record, one, created, actor or CURATOR))
            changed += 1
        for said in own:
            if wrong := said.fault():
                raise UserError(
                    f"This row makes no {said.event} event: {wrong}", file=one.file, row=one.row
                )
        statements += own
    store.append(statements)
    return Imported(len(conversations) - known, known, scores, changed)


def fingerprint(created: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two rows the same: where they are from, prompt and answer."""
    source = created["source"]
    said = text_sha256(json.dumps(created["prompt"], sort_keys=True), created["answer"])
    return source["dataset"], source.get("split"), source["item_id"], said


def _created(one: Conversation, origin: Origin, digest: str) -> dict[str, Any]:
    *prompt, last = one.messages
    if last["role"] != "assistant" or not prompt:
        raise UserError(
            "This conversation does not end with an answer to something", file=one.file, row=one.row
        )
    said = one.rejected[-1] if one.rejected is not None else last
    reasoning, answer = split_thinking(said)
    source = {"dataset": origin.dataset, "split": origin.split, "item_id": one.id}
    kind = one.extra.get("kind", origin.kind)
    topic = one.extra.get("topic", one.extra.get("category"))
    row = {
        "prompt": [dict(turn) for turn in prompt],
        "reasoning": reasoning,
        "answer": answer,
        "bucket": origin.bucket,
        "kind": kind if kind in ("unsafe", "benign") else origin.kind,
        "lang": origin.lang,
        "topic": "; ".join(topic) if isinstance(topic, list) else topic,
        "source": _given(source | {"licence": origin.licence, "file_sha256": digest}),
        "generator": {"model": origin.generator} if origin.generator else None,
    }
    return _given(row)


def _given(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in row.items() if value not in (None, "") or name == "answer"
    }


def split_thinking(turn: Mapping[str, str]) -> tuple[str, str]:
    """Reasoning and answer of an assistant turn.

    >>> split_thinking({"content": "<think>Hm.</think>Yes."})
    ('Hm.', 'Yes.')
    """
    found = THINKING.match(turn["content"])
    if found is None:
        return turn.get("reasoning_content", ""), turn["content"]
    return found[1].strip(), turn["content"][found.end() :].strip()


def _is_star1(columns: Mapping[str, Any]) -> bool:
    score = columns.get("score")
    return isinstance(score, dict) and all(name in score for name in STAR1)


def _scored(
    one: Conversation, created: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """STAR-1's three scores of 1 to 10, given by a language model."""
    if not _is_star1(one.extra):
        return
    payload = {
        "text_sha256": text_sha256(created.get("reasoning", ""), created["answer"]),
        "rubric": {"name": "star-1", "low": 1, "high": 10},
        "values": one.extra["score"],
        "veto": False,
    }
    yield payload, {"id": "star-1-judge", "role": "llm"}


def _preferred(
    record: str, one: Conversation, created: Mapping[str, Any], actor: dict[str, str] | Key
) -> Statement:
    answer = split_thinking(one.messages[-1])[1]
    try:
        change = edits.edit("answer", created["answer"], answer, "other", 1, "a preference pair")
    except UserError as error:
        raise UserError(error.problem, file=one.file, row=one.row) from None
    return state("edit", record, change, actor)


# ── What people did elsewhere ────────────────────────────────────────────────


def import_edits(store: Store, path: str | Path, key: Key | None = None) -> Imported:
    """Import edits from a CSV file with the columns `cts_id` (or `item_id`), `after`, `reviewer`,
    `role`, `reason_code`, `severity` and, if wanted, `field` (default `answer`) and `note`.

    Rows of the key's own reviewer are signed.

    Raises:
        UserError: A row is malformed, or names no record; nothing is imported then.
    """
    path = Path(path).expanduser()
    found = records(store)
    by_item = {one.row["source"]["item_id"]: one for one in found.values()}
    statements = []
    known = 0
    for number, row in _csv(path):
        record = found.get(row.get("cts_id") or "") or by_item.get(row.get("item_id") or "")
        if record is None:
            raise UserError(
                f"There is no record {row.get('cts_id') or row.get('item_id')!r}",
                file=path,
                row=number,
            )
        name, severity = row.get("field") or "answer", row["severity"]
        if name not in ("answer", "reasoning") or severity not in ("0", "1", "2", "3"):
            raise UserError(
                "`field` is answer or reasoning, and `severity` is 0, 1, 2 or 3",
                file=path,
                row=number,
            )
        if getattr(record.now, name) == row["after"]:
            known += 1
            continue
        before = getattr(record.now, name)
        change = edits.edit(
            name, before, row["after"], row["reason_code"], int(severity), row.get("note") or None
        )
        said = state("edit", record.id, change, _speaker(row["reviewer"], row["role"], key))
        if wrong := said.fault() or fault("actor", said.actor):
            raise UserError(f"This edit is malformed: {wrong}", file=path, row=number)
        statements.append(said)
        _advance(record, said)
    store.append(statements)
    return Imported(0, known, 0, len(statements))


def _advance(record: Record, said: Statement) -> None:
    """Let a later row of the file edit what an earlier one left."""
    from dataclasses import replace

    after = edits.apply(getattr(record.now, said.payload["field"]), said.payload["ops"])
    record.versions.append(replace(record.now, **{said.payload["field"]: after}))


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    needed = ("after", "reviewer", "role", "reason_code", "severity")
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        columns = reader.fieldnames or []
        missing = [name for name in needed if name not in columns]
        if missing or not {"cts_id", "item_id"} & set(columns):
            raise UserError(
                f"These edits lack the column(s) {', '.join(missing) or 'cts_id or item_id'}",
                file=path,
                row=1,
            )
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"This row has not the header's {len(columns)} columns",
                    file=path,
                    row=reader.line_num,
                    remedy="put quotes around text that holds commas or line breaks",
                )
            yield reader.line_num, row
    except FileNotFoundError:
        raise UserError("There is no such file", file=path) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"This is not CSV in UTF-8: {error}", file=path) from None


def import_label_studio(
    store: Store, path: str | Path, role: str = "physician", key: Key | None = None
) -> Imported:
    """Import a Label Studio JSON export whose tasks carry `cts_id` in their data.

    Read of each annotation: `rating` controls named like the five criteria, `choices` named
    `decision` (accepted, rejected, escalated) and `veto` (any choice), `textarea` named `answer`
    (the corrected answer) and `veto_reason`. Annotators become `ls-<number>`.

    Raises:
        UserError: A task is malformed or names no record; nothing is imported then.
    """
    path = Path(path).expanduser()
    found = records(store)
    told = {(s.who, s.event.ts, r.id) for r in found.values() for s in (*r.scores, *r.decisions)}
    statements: list[Statement] = []
    known = 0
    for number, task in enumerate(_tasks(path), 1):
        try:
            record = found[task["data"]["cts_id"]]
            for one in task.get("annotations", []):
                made = _annotation(record, one, role, key)
                if made and (made[0].actor["id"], made[0].ts, record.id) in told:
                    known += 1
                    continue
                statements += made
        except KeyError as error:
            raise UserError(
                f"This task lacks {error}, or it is the id of no record", file=path, row=number
            ) from None
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(f"This task is malformed: {error}", file=path, row=number) from None
        for said in statements:
            if wrong := said.fault():
                raise UserError(f"This task is malformed: {wrong}", file=path, row=number)
    store.append(statements)
    kinds = [said.event for said in statements]
    return Imported(0, known, kinds.count("score"), kinds.count("edit"))


def _tasks(path: Path) -> Sequence[Any]:
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("There is no such file", file=path) from None
    except ValueError as error:
        raise UserError(
            f"This is not JSON: {error}", file=path, row=getattr(error, "lineno", None)
        ) from None
    if not isinstance(tasks, list):
        raise UserError("A Label Studio export is one list of tasks", file=path)
    return tasks


def _annotation(record: Record, one: dict[str, Any], role: str, key: Key | None) -> list[Statement]:
    said: dict[str, Any] = {}
    for control in one["result"]:
        value = control["value"]
        if "rating" in value:
            said[control["from_name"]] = int(value["rating"])
        elif "choices" in value:
            said[control["from_name"]] = value["choices"][0]
        elif "text" in value:
            text = value["text"]
            said[control["from_name"]] = text if isinstance(text, str) else "\n".join(text)
    by = one["completed_by"]
    actor = _speaker(f"ls-{by['id'] if isinstance(by, dict) else by}", role, key)
    at = str(one.get("created_at", now()))[:19] + "Z" if one.get("created_at") else now()
    made = []
    if any(name in said for name in FIVE) or said.get("veto"):
        score = {
            "text_sha256": record.now.sha256,
            "rubric": RUBRIC,
            "values": {name: said.get(name) for name in FIVE},
            "veto": bool(said.get("veto")),
        }
        if said.get("veto_reason"):
            score["veto_reason"] = said["veto_reason"]
        made.append(state("score", record.id, score, actor, at))
    decided_on = record.now.sha256
    if said.get("answer") and said["answer"] != record.now.answer:
        change = edits.edit("answer", record.now.answer, said["answer"], "other", 1)
        made.append(state("edit", record.id, change, actor, at))
        decided_on = text_sha256(record.now.reasoning, said["answer"])
    if "decision" in said:
        decision = {"verdict": said["decision"], "text_sha256": decided_on, "panel": False}
        made.append(state("decision", record.id, decision | {"covers": "record"}, actor, at))
    return made


def _speaker(reviewer: str, role: str, key: Key | None) -> dict[str, str] | Key:
    if key is not None and key.reviewer == reviewer:
        return key
    return {"id": reviewer, "role": role}
