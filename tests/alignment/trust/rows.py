"""A small trust store that several tests share."""

from pathlib import Path
from typing import Any

from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.edits import edit
from primum.alignment.trust.events import Statement, state
from primum.alignment.trust.keys import Key, new_key
from primum.alignment.trust.schema import FIVE, RUBRIC
from primum.alignment.trust.store import Store

CURATOR = {"id": "curator", "role": "curator"}
BEFORE = "Take 50 mg of the tablets every day, and call us if you feel dizzy or faint."
AFTER = "Take 5 mg of the tablets every day, and call us if you feel dizzy or faint."


def created(number: int = 0, **facts: Any) -> dict[str, Any]:
    """The payload of a create event."""
    row = {
        "prompt": [{"role": "user", "content": f"How much of it should patient {number} take?"}],
        "answer": BEFORE,
        "bucket": "knowledge",
        "source": {"dataset": "ward", "item_id": str(number), "licence": "CC0-1.0"},
    }
    return row | facts


def create(record: str, number: int = 0, **facts: Any) -> Statement:
    return state("create", record, created(number, **facts), CURATOR)


def score(
    record: str, who: Any, value: int = 4, text: str = BEFORE, veto: bool = False, **more: Any
) -> Statement:
    payload: dict[str, Any] = {
        "text_sha256": text_sha256("", text),
        "rubric": RUBRIC,
        "values": {name: value for name in FIVE},
        "veto": veto,
    }
    return state("score", record, payload | more, who)


def edited(record: str, who: Any, after: str = AFTER, before: str = BEFORE) -> Statement:
    return state("edit", record, edit("answer", before, after, "unsafe_dose", 3), who)


def decided(
    record: str, who: Any, verdict: str = "accepted", text: str = BEFORE, **more: Any
) -> Statement:
    payload = {"verdict": verdict, "text_sha256": text_sha256("", text)}
    return state("decision", record, payload | {"panel": False, "covers": "record"} | more, who)


def reviewer(
    folder: Path, store: Store | None = None, name: str = "r-1", role: str = "physician"
) -> Key:
    """A key, enrolled if a store is given."""
    key = new_key(folder / f"{name}.pem", name, role)
    if store is not None:
        store.register.add(key.row)
    return key


def ward(folder: Path, rows: int = 3) -> tuple[Store, Key]:
    """Records row-0, row-1, ...: scored, edited and accepted by one signing physician."""
    store = Store.create(folder / "trust")
    key = reviewer(folder, store)
    for n in range(rows):
        name = f"row-{n}"
        store.append(
            [
                create(name, n),
                score(name, key, 2),
                edited(name, key),
                score(name, key, 5, AFTER),
                decided(name, key, text=AFTER),
            ]
        )
    return store, key
