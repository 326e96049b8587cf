"""Training sets as pure functions of the log: each row names its record and the head it is of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from primum.alignment.trust import edits
from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.records import Record, records
from primum.alignment.trust.store import Store
from primum.alignment.trust.strikes import StrikePolicy, frozen
from primum.errors import UserError
from primum.files import atomic_write, sha256

Admit = Literal["decided", "scored", "any"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which records a view takes.

    Args:
        admit: `decided`: accepted by somebody, as the text stands now. `scored`: also what was
            scored and not rejected. `any`: also what nobody has looked at.
        signed_only: Only signed scores and decisions count.
        weight_power, weight_floor: A row's weight is `((mean rubric - 1) / 4) ** power`, at least
            the floor; an unscored row weighs 1.
        strikes: When records are held back for a panel.
        least_distance, most_distance: Preference pairs come from edits that changed at least, and
            at most, this share of the words; `least_margin` is the rise in mean rubric that keeps
            an edit of severity 0.
    """

    admit: Admit = "decided"
    signed_only: bool = False
    weight_power: float = 1.0
    weight_floor: float = 0.1
    strikes: StrikePolicy = field(default_factory=StrikePolicy)
    least_distance: float = 0.02
    most_distance: float = 0.8
    least_margin: float = 0.5

    def usable(self, record: Record, held: set[str]) -> bool:
        """Nothing speaks against using its words at all."""
        return not (record.revoked or record.open_disputes() or record.id in held)

    def admits(self, record: Record) -> bool:
        """May its present answer be learned?"""
        standing = record.standing(self.signed_only)
        if not record.now.answer or record.open_vetoes() or standing in ("rejected", "escalated"):
            return False
        if self.admit == "decided":
            return standing == "accepted"
        if self.admit == "scored":
            return standing == "accepted" or record.mean(signed_only=self.signed_only) is not None
        return True

    def weight(self, record: Record) -> float:
        """How much a row counts in the loss."""
        mean = record.mean(signed_only=self.signed_only)
        if mean is None:
            return 1.0
        return max(self.weight_floor, ((mean - 1) / 4) ** self.weight_power)


def sft(record: Record, selection: Selection) -> list[Row]:
    """Conversations to learn, with weight and where clinicians put words of their own."""
    if not selection.admits(record):
        return []
    row: Row = {"messages": record.messages(), "weight": selection.weight(record)}
    by_people = [i for i, one in enumerate(record.edits) if one.event.actor["role"] != "llm"]
    if by_people:
        before = record.versions[by_people[0]].answer
        ops = edits.difference(before, record.now.answer)
        row["edited"] = [list(span) for span in edits.introduced(before, ops)]
    return [row]


def pref_pairs(record: Record, selection: Selection) -> list[Row]:
    """Text after an edit, preferred to the text before; `margin` is the rise in mean rubric."""
    if not selection.admits(record):
        return []
    pairs = []
    for said, before, after in zip(
        record.edits, record.versions, record.versions[1:], strict=False
    ):
        if said.payload["field"] != "answer":
            continue
        old, new = (record.mean(one, selection.signed_only) for one in (before, after))
        margin = None if old is None or new is None else new - old
        changed = edits.distance(before.answer, said.payload["ops"])
        kept = said.payload["severity"] >= 1 or (margin or 0.0) >= selection.least_margin
        if not kept or not selection.least_distance <= changed <= selection.most_distance:
            continue
        if margin is not None and margin < 0:
            continue  # an edit that made it worse, by the raters' own word
        turns = {
            name: [record.messages(version)[-1]]
            for name, version in (("chosen", after), ("rejected", before))
        }
        pairs.append(
            {"prompt": record.row["prompt"], **turns, "margin": margin or 0.0}
            | {"severity": said.payload["severity"], "reason_code": said.payload["reason_code"]}
        )
    return pairs


def kto(record: Record, selection: Selection) -> list[Row]:
    """Answers labelled desirable (accepted) or not (rejected, or vetoed)."""
    standing = record.standing(selection.signed_only)
    bad = standing == "rejected" or bool(record.open_vetoes())
    if not record.now.answer or not (bad or (standing == "accepted" and selection.admits(record))):
        return []
    turn = record.messages()[-1]
    return [{"prompt": record.row["prompt"], "completion": [turn], "label": not bad}]


def grpo_prompts(record: Record, selection: Selection) -> list[Row]:
    """Prompts to answer by oneself, with what a reward needs to judge them."""
    if record.standing(selection.signed_only) in ("rejected", "escalated"):
        return []
    facts = {name: record.row.get(name) for name in ("bucket", "kind", "topic")}
    facts["gold"] = (record.row.get("gold") or {}).get("value")
    rows = [{"prompt": record.row["prompt"], "family": None, **facts}]
    for said in record.redteam:
        attack = {"prompt": said.payload["prompt"], "family": said.payload["family"]}
        rows.append({**facts, **attack, "kind": "unsafe"})
    return rows


def redteam_eval(record: Record, selection: Selection) -> list[Row]:
    """Attacks that were tried, with whom they were tried on and how that ended."""
    return [
        {name: said.payload[name] for name in ("prompt", "family", "success")}
        | {"target": said.payload["target"]["name"], "judge": said.payload["judge"]["name"]}
        for said in record.redteam
    ]


def contrast_benign(record: Record, selection: Selection) -> list[Row]:
    """Benign twins: prompts that only sound like an unsafe one, with a helpful answer."""
    twin = record.row.get("contrast_of")
    if twin is None or not selection.admits(record):
        return []
    return [{"messages": record.messages(), "kind": "benign", "contrast_of": twin}]


VIEWS: Mapping[str, Callable[[Record, Selection], list[Row]]] = {
    "sft": sft,
    "pref_pairs": pref_pairs,
    "kto": kto,
    "grpo_prompts": grpo_prompts,
    "redteam_eval": redteam_eval,
    "contrast_benign": contrast_benign,
}


def view(store: Store, name: str, selection: Selection | None = None) -> list[Row]:
    """The rows of a view. The same store and selection give the same rows, in the same order.

    Raises:
        UserError: There is no such view.
    """
    if name not in VIEWS:
        raise UserError(f"There is no view `{name}`", remedy=f"choose one of {', '.join(VIEWS)}")
    selection = selection or Selection()
    found = records(store)
    held = {one for own in frozen(found, selection.strikes).values() for one in own}
    rows = []
    for record in found.values():
        if not selection.usable(record, held):
            continue
        own = VIEWS[name](record, selection)
        for number, row in enumerate(own):
            ids = {"id": record.id if len(own) == 1 else f"{record.id}#{number}"}
            facts = {"bucket": record.row["bucket"], "kind": record.row.get("kind")}
            rows.append({**ids, **facts, **row, "cts_id": record.id, "head_hash": store.head})
    return rows


def write_view(
    store: Store, name: str, path: str | Path, selection: Selection | None = None
) -> int:
    """Write a view as JSONL, remember in the store that it was, and return the number of rows.

    Raises:
        UserError: The view is empty.
    """
    rows = view(store, name, selection)
    path = Path(path).expanduser()
    if not rows:
        raise UserError(
            f"The view `{name}` has no rows",
            file=store.path,
            remedy="take what nobody has decided on with --admit scored or --admit any"
            if name != "redteam_eval"
            else "append redteam events first",
        )
    store.hold("view", path, view=name, head=store.head)  # first, or a crash would leave it unknown
    atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    path.chmod(0o600)
    store.hold("view", path, view=name, head=store.head, rows=len(rows), sha256=sha256(path))
    return len(rows)


def view_sha256(rows: list[Row]) -> str:
    """Names the content of a view without its head, which moves when unrelated rows are added."""
    return text_sha256(
        *(json.dumps({k: v for k, v in row.items() if k != "head_hash"}, sort_keys=True)
          for row in rows)
    )  # fmt: skip
