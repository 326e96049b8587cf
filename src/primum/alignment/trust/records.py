"""What the log says of each row now: its text after the edits, its scores and its standing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from primum.alignment.trust import edits
from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.events import Event
from primum.alignment.trust.schema import RUBRIC
from primum.alignment.trust.store import Store


@dataclass(frozen=True)
class Version:
    """A text of a record, between two edits."""

    reasoning: str
    answer: str

    @property
    def sha256(self) -> str:
        """Names it in scores and decisions."""
        return text_sha256(self.reasoning, self.answer)


@dataclass(frozen=True)
class Said:
    """An event with its payload."""

    event: Event
    payload: dict[str, Any]

    @property
    def signed(self) -> bool:
        """Whether a reviewer's key vouches for it."""
        return self.event.signature is not None

    @property
    def who(self) -> str:
        """The pseudonym."""
        return self.event.actor["id"]


@dataclass
class Record:
    """One training row and all that was said of it.

    Attributes:
        id: The record's id.
        created: Its create event.
        versions: Its texts, the first as created, the last as it is now.
        scores, edits, decisions, redteam: In the order of the log.
        disputed: Edits of a text that was not there any more: two people edited at once.
        revoked: Its revoke event.
    """

    id: str
    created: Said
    versions: list[Version]
    scores: list[Said] = field(default_factory=list)
    edits: list[Said] = field(default_factory=list)
    decisions: list[Said] = field(default_factory=list)
    redteam: list[Said] = field(default_factory=list)
    disputed: list[Said] = field(default_factory=list)
    revoked: Said | None = None

    @property
    def row(self) -> dict[str, Any]:
        """What was created: prompt, bucket, source and the rest."""
        return self.created.payload

    @property
    def now(self) -> Version:
        """Its text after every edit."""
        return self.versions[-1]

    @property
    def cell(self) -> tuple[str, str]:
        """Generator and topic: where the same mistake is likely to be made again."""
        return (self.row.get("generator") or {}).get("model", ""), self.row.get("topic", "")

    def standing(self, signed_only: bool = False) -> str | None:
        """The last decision; an acceptance counts only for the text that it saw."""
        current = self.now.sha256
        told = [one.payload for one in self.decisions if one.signed or not signed_only]
        told = [
            one for one in told if one["text_sha256"] == current or one["verdict"] != "accepted"
        ]
        return told[-1]["verdict"] if told else None

    def panel(self) -> int:
        """Place in the log of the last decision of a panel; -1 if there was none."""
        return max((one.event.seq for one in self.decisions if one.payload["panel"]), default=-1)

    def open_vetoes(self) -> list[Said]:
        """Vetoes of the present text after which no panel has decided."""
        present, after = self.now.sha256, self.panel()
        own = [one for one in self.scores if one.payload["veto"] and one.event.seq > after]
        return [one for one in own if one.payload["text_sha256"] == present]

    def open_disputes(self) -> list[Said]:
        """Edits that could not be applied, and after which no panel has decided."""
        return [one for one in self.disputed if one.event.seq > self.panel()]

    def mean(self, version: Version | None = None, signed_only: bool = False) -> float | None:
        """Mean rubric value of a version on the scale 1 to 5, over raters; None if not scored."""
        wanted = (version or self.now).sha256
        means = [
            mean
            for one in self.scores
            if one.payload["text_sha256"] == wanted
            and (one.signed or not signed_only)
            and (mean := score_mean(one.payload)) is not None
        ]
        return sum(means) / len(means) if means else None

    def messages(self, version: Version | None = None) -> list[dict[str, str]]:
        """The conversation with an answer of the record as its last turn."""
        said = version or self.now
        turn = {"role": "assistant", "content": said.answer}
        if said.reasoning:
            turn["reasoning_content"] = said.reasoning
        return [*self.row["prompt"], turn]


def score_mean(score: Mapping[str, Any]) -> float | None:
    """Mean of a score's values, brought to the scale 1 to 5.

    >>> score_mean({"rubric": {"name": "ten", "low": 0, "high": 10}, "values": {"a": 5, "b": None}})
    3.0
    """
    values = [value for value in score["values"].values() if value is not None]
    low, high = score["rubric"]["low"], score["rubric"]["high"]
    if not values or high == low:
        return None
    share = (sum(values) / len(values) - low) / (high - low)
    return RUBRIC["low"] + share * (RUBRIC["high"] - RUBRIC["low"])  # type: ignore[operator]


def records(store: Store) -> dict[str, Record]:
    """Every record that was not erased, in the order of creation. A pure function of the store."""
    found: dict[str, Record] = {}
    events: dict[str, list[Event]] = {}
    for event in store.events:
        if event.record is not None and event.record not in store.erased:
            events.setdefault(event.record, []).append(event)
    for record, own in events.items():
        payloads = store.payloads(record)
        if any(event.commitment not in payloads for event in own):
            continue  # being erased at this moment
        found[record] = fold([Said(event, payloads[event.commitment]) for event in own])
    return found


def fold(said: Sequence[Said]) -> Record:
    """One record from its events in order; the first is its create event."""
    first = said[0].payload
    record = Record(
        str(said[0].event.record), said[0], [Version(first.get("reasoning", ""), first["answer"])]
    )
    lists = {"score": record.scores, "decision": record.decisions, "redteam": record.redteam}
    for one in said[1:]:
        kind = one.event.event
        if kind == "edit":
            _edit(record, one)
        elif kind == "revoke":
            record.revoked = one
        elif kind in lists:
            lists[kind].append(one)
    return record


def _edit(record: Record, said: Said) -> None:
    name, payload = said.payload["field"], said.payload
    before = getattr(record.now, name)
    if text_sha256(before) != payload["before_sha256"]:
        record.disputed.append(said)
        return
    try:
        after = edits.apply(before, payload["ops"])
    except ValueError:
        record.disputed.append(said)
        return
    if text_sha256(after) != payload["after_sha256"]:
        record.disputed.append(said)
        return
    record.edits.append(said)
    record.versions.append(replace(record.now, **{name: after}))
