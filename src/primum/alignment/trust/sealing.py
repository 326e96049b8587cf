"""A signed head and count: kept elsewhere, it finds what a chain alone cannot (cuts, rewrites)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from primum.alignment.trust.canonical import canonical
from primum.alignment.trust.events import Event, now
from primum.alignment.trust.keys import Key, signed_by
from primum.alignment.trust.store import Store
from primum.errors import UserError
from primum.files import atomic_write

SCHEMA = "cts-seal/1"
MARKS = 64  # hashes on the way to the head, which narrow a rewrite down


def seal(store: Store, key: Key) -> tuple[Path, dict[str, Any]]:
    """Sign the head and count of a log; a copy stays in `seals/`, the other belongs elsewhere."""
    with store.locked():
        events = store.events
        step = max(1, -(-len(events) // MARKS))
        body = {
            "schema": SCHEMA,
            "count": len(events),
            "head": store.head,
            "marks": [[event.seq, event.hash] for event in events[::step]],
            "reviewers": store.register.keys,
            "ts": now(),
            "by": key.actor,
            "public": key.public,
        }
        signed = body | {"signature": key.sign(canonical(body))}
        path = store.path / "seals" / f"{len(events):08d}-{store.head[:12]}.json"
        atomic_write(path, json.dumps(signed, indent=1) + "\n")
    return path, signed


def read_seal(path: str | Path, by: str | None = None) -> dict[str, Any]:
    """Read a seal whose signature is right.

    Args:
        by: The public key (64 hex digits) it must be signed with; without it, the key in the seal
            itself is taken, and trust rests on where the seal was kept.

    Raises:
        UserError: It is no seal, or was altered, or signed by somebody else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        body = {name: value for name, value in content.items() if name != "signature"}
        schema, public = body["schema"], body["public"]
        numbers = [int(body["count"]), *(int(seq) for seq, _ in body["marks"])]
        right = signed_by(public, canonical(body), content["signature"]["value"])
    except FileNotFoundError:
        raise UserError("There is no such seal", file=path) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError("This is no seal of a trust log", file=path) from None
    if schema != SCHEMA or min(numbers) < 0:
        raise UserError(f"This is no seal of {SCHEMA}", file=path)
    if not right:
        raise UserError("This seal was altered: its signature does not fit", file=path)
    if by is not None and public != by:
        raise UserError(
            f"This seal is signed by another key ({public[:16]}...) than {by[:16]}...", file=path
        )
    return content


def fault(
    content: dict[str, Any], events: list[Event], keys: dict[str, Any]
) -> tuple[int | None, str] | None:
    """Line and words of what a store lacks of what was sealed; None if it still has it all."""
    count, when = content["count"], content["ts"]
    for key, row in content["reviewers"].items():
        if keys.get(key) != row:
            said = f"the key {key} of {row['reviewer']} is not in the register as it was"
            return None, f"{said} at the seal of {when}"
    before = 0
    for seq, digest in [*content["marks"], [count - 1, content["head"]]]:
        if seq < 0:
            continue
        if seq < len(events) and events[seq].hash != digest:
            place = f"line {seq + 1}" if seq == before else f"lines {before + 1} to {seq + 1}"
            return seq + 1, f"it was rewritten since the seal of {when}: {place}"
        if seq < len(events):
            before = seq + 1
    if len(events) < count:
        cut = count - len(events)
        return len(events) + 1, f"its tail was cut: the seal of {when} has {cut} more events"
    return None
