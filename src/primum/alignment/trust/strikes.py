"""Five strikes: what fails too often is frozen until a panel has looked at it.

After the "Five-Strike Error Trigger for Expert Panel" that SafeMed-R1's figure names and does not
define. Our reading: a strike is a score with a veto or with a value in the lowest part of its
scale; they are counted for a record, or for all records that one generator wrote on one topic.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from primum.alignment.trust.records import Record


@dataclass(frozen=True)
class StrikePolicy:
    """When a panel is called.

    Args:
        strikes: How many.
        scope: Counted for a `record`, a `generator`, or a `cell` (a generator on a topic).
        fail_at: Highest value, on the scale 1 to 5, that is a failure.
    """

    strikes: int = 5
    scope: Literal["record", "generator", "cell"] = "cell"
    fail_at: float = 2.0

    def key(self, record: Record) -> Hashable:
        """What a record's strikes are counted for."""
        generator, topic = record.cell
        if self.scope == "record" or not generator:
            return record.id  # what nobody generated stands for itself
        return (generator, topic) if self.scope == "cell" else generator


def strike(score: Mapping[str, Any], policy: StrikePolicy) -> bool:
    """Does this score count against its record?"""
    low, high = score["rubric"]["low"], score["rubric"]["high"]
    worst = min((v for v in score["values"].values() if v is not None), default=high)
    return bool(score["veto"]) or (worst - low) / max(1, high - low) * 4 + 1 <= policy.fail_at


def frozen(
    found: Mapping[str, Record], policy: StrikePolicy | None = None
) -> dict[Hashable, list[str]]:
    """Records held back until a panel decides, by what their strikes are counted for.

    A panel's decision that `covers` the cell clears what was counted before it; one that covers the
    record clears that record's share.
    """
    policy = policy or StrikePolicy()
    members: dict[Hashable, list[Record]] = {}
    for record in found.values():
        members.setdefault(policy.key(record), []).append(record)
    held = {}
    for key, own in members.items():
        panel = [(r.id, one) for r in own for one in r.decisions if one.payload["panel"]]
        whole = [one.event.seq for _, one in panel if one.payload["covers"] == "cell"]
        count = 0
        for record in own:
            alone = [one.event.seq for name, one in panel if name == record.id]
            after = max([*whole, *alone], default=-1)
            count += sum(
                strike(one.payload, policy) for one in record.scores if one.event.seq > after
            )
        if count >= policy.strikes:
            held[key] = [record.id for record in own]
    return held
