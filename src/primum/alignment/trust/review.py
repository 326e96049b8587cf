"""Who reviews which rows, the page they review on, and what comes back from it."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from primum.alignment.trust import edits
from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.events import Statement, state
from primum.alignment.trust.keys import Key
from primum.alignment.trust.records import Record, records
from primum.alignment.trust.schema import FIVE, RUBRIC, ethics, fault, schema
from primum.alignment.trust.store import Store
from primum.errors import UserError
from primum.files import atomic_write

SCHEMA, SIGNED = "cts-review/1", "cts-signed/1"


def assign(
    store: Store,
    reviewers: Sequence[str],
    folder: str | Path,
    *,
    overlap: float = 0.2,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Path]:
    """Deal the rows nobody has decided on among reviewers, and write a page for each.

    Pages are blinded: they show neither who or what wrote an answer nor what others said of it.

    Args:
        reviewers: Pseudonyms in the register.
        overlap: Share of the rows that two reviewers get, so that agreement can be measured.
        limit: At most so many rows.
        seed: Decides who gets what, and each reviewer's order.

    Returns:
        The page of each reviewer.

    Raises:
        UserError: A reviewer is unknown, or there is nothing to review.
    """
    known = {row["reviewer"]: row["role"] for row in store.register.keys.values()}
    for name in reviewers:
        if name not in known:
            raise UserError(
                f"There is no reviewer `{name}` (known: {', '.join(sorted(known)) or 'none'})",
                file=store.register.path,
                remedy="primum trust enrol KEY.pub",
            )
    if len(set(reviewers)) < len(reviewers) or not 0 <= overlap <= 1:
        raise UserError("Reviewers are named once each, and the overlap is between 0 and 1")
    if overlap and len(reviewers) < 2:
        raise UserError("One reviewer alone has nobody to overlap with", remedy="--overlap 0")
    open_rows = [
        one
        for one in records(store).values()
        if one.standing() in (None, "escalated") and not one.revoked and one.now.answer
    ][:limit]
    if not open_rows:
        raise UserError("Every row is decided on: nothing to review", file=store.path)
    dealt = deal([one.id for one in open_rows], reviewers, overlap, seed)
    by_id = {one.id: one for one in open_rows}
    pages = {}
    for name, ids in dealt.items():
        path = Path(folder).expanduser() / f"review-{name}.html"
        store.hold("review page", path, reviewer=name)
        content = page([by_id[one] for one in ids], name, known[name], store.head)
        atomic_write(path, content)
        path.chmod(0o600)
        pages[name] = path
    return pages


def deal(
    rows: Sequence[str], reviewers: Sequence[str], overlap: float, seed: int
) -> dict[str, list[str]]:
    """Rows to reviewers: a share to two each, in turn, the rest to one; orders differ.

    >>> dealt = deal(["a", "b", "c", "d", "e"], ["x", "y"], overlap=0.2, seed=0)
    >>> sum(map(len, dealt.values())), len(set(dealt["x"]) & set(dealt["y"]))
    (6, 1)
    """
    shuffled = random.Random(f"{seed} rows").sample(list(rows), len(rows))
    twice = round(overlap * len(rows))
    dealt: dict[str, list[str]] = {name: [] for name in reviewers}
    turn = 0
    for number, row in enumerate(shuffled):
        for _ in range(2 if number < twice else 1):
            dealt[reviewers[turn % len(reviewers)]].append(row)
            turn += 1
    return {
        name: random.Random(f"{seed} {name}").sample(own, len(own)) for name, own in dealt.items()
    }


def page(rows: Sequence[Record], reviewer: str, role: str, head: str) -> str:
    """A review page: one HTML file that needs no server and asks no other for anything."""
    data = {
        "page": uuid.uuid4().hex[:8],
        "reviewer": reviewer,
        "role": role,
        "blinded": True,
        "head": head,
        "criteria": FIVE,
        "ethics": ethics(),
        "reasons": schema()["$defs"]["edit"]["properties"]["reason_code"]["enum"],
        "rows": [
            {
                "record": one.id,
                "prompt": one.row["prompt"],
                "reasoning": one.now.reasoning,
                "answer": one.now.answer,
                "text_sha256": one.now.sha256,
            }
            for one in rows
        ],
    }
    spelled = json.dumps(data, ensure_ascii=False)
    for sign in "<>&":  # or a row could end the script it lies in
        spelled = spelled.replace(sign, f"\\u{ord(sign):04x}")
    template = files("primum.alignment.trust").joinpath("review.html").read_text("utf-8")
    return template.replace("__DATA__", spelled)


def read_review(path: str | Path, key: Key | None = None) -> list[Statement]:
    """What a page exported (or `sign` made of it), as statements.

    Args:
        key: Signs them; without it they are unattributed, unless they are signed already.

    Raises:
        UserError: It is no such file, a row is malformed, or the key is another reviewer's.
    """
    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind = content["schema"]
        if kind == SIGNED:
            return [Statement.from_json(row) for row in content["statements"]]
        actor = {"id": content["reviewer"], "role": content["role"]}
        rows = content["rows"]
        assert kind == SCHEMA and fault("actor", actor) is None
    except FileNotFoundError:
        raise UserError("There is no such review", file=path) from None
    except (ValueError, KeyError, TypeError, AssertionError):
        raise UserError("This is no export of a review page", file=path) from None
    if key is not None and key.actor != actor:
        raise UserError(
            f"The review is by {actor['id']} ({actor['role']}), the key of {key.reviewer} "
            f"({key.role})",
            file=path,
            remedy="give the reviewer's own key, or none",
        )
    statements = []
    for number, row in enumerate(rows, 1):
        try:
            made = _row(row, bool(content.get("blinded")), key or actor)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"This row is not what a review page exports: {error}", file=path, row=number
            ) from None
        for said in made:
            if wrong := said.fault():
                raise UserError(
                    f"The {said.event} of this row is malformed: {wrong}", file=path, row=number
                )
        statements += made
    return statements


def _row(row: dict[str, Any], blinded: bool, actor: dict[str, str] | Key) -> list[Statement]:
    score: dict[str, Any] = {
        "text_sha256": row["text_sha256"],
        "rubric": RUBRIC,
        "values": row["values"],
        "veto": row["veto"],
        "minutes": round(row["seconds"] / 60, 2),
        "blinded": blinded,
    }
    if row["ethics"]:
        score["ethics"] = row["ethics"]
    if row["veto"]:
        score["veto_reason"] = row["veto_reason"]
    record, at, decided_on = row["record"], row["at"], row["text_sha256"]
    made = [state("score", record, score, actor, at)]
    if row["edit"]:
        before, after = row["before"], row["edit"]["answer"]
        change = edits.edit(
            "answer",
            before["answer"],
            after,
            row["edit"]["reason_code"],
            row["edit"]["severity"],
        )
        made.append(state("edit", record, change, actor, at))
        decided_on = text_sha256(before["reasoning"], after)
    decision = {
        "verdict": row["decision"],
        "text_sha256": decided_on,
        "panel": False,
        "covers": "record",
    }
    return [*made, state("decision", record, decision, actor, at)]


def sign(path: str | Path, key: Key, out: str | Path) -> int:
    """Turn an export into signed statements on the reviewer's own machine; returns how many."""
    statements = read_review(path, key)
    rows = [said.to_json() for said in statements]
    atomic_write(out, json.dumps({"schema": SIGNED, "statements": rows}, ensure_ascii=False) + "\n")
    return len(rows)


@dataclass(frozen=True)
class Collected:
    """What a review added: events, rows known already, and rows whose text has changed since."""

    events: int
    known: int
    stale: list[str]


def collect(store: Store, statements: Sequence[Statement]) -> Collected:
    """Append a review; what was appended before is left out.

    Raises:
        UserError: A record is unknown or erased, or a signature is not its reviewer's.
    """
    found = records(store)
    told = {
        (one.who, one.event.ts, one.event.event, record.id)
        for record in found.values()
        for one in (*record.scores, *record.edits, *record.disputed, *record.decisions)
    }
    new = [
        said
        for said in statements
        if (said.actor["id"], said.ts, said.event, said.record) not in told
    ]
    stale = sorted(
        {
            str(said.record)
            for said in new
            if said.event == "score"
            and said.record in found
            and said.payload["text_sha256"] != found[said.record].now.sha256
        }
    )
    store.append(new)
    return Collected(len(new), len(statements) - len(new), stale)
