"""The chain finds what was changed; a seal kept elsewhere finds what was cut or written anew."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.alignment.trust.rows import CURATOR, create, reviewer, score, ward

from primum.alignment.trust.canonical import chain_hash
from primum.alignment.trust.events import place, spelled, state
from primum.alignment.trust.sealing import seal
from primum.alignment.trust.store import Store
from primum.alignment.trust.verify import verify
from primum.errors import UserError


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ward(tmp_path_factory.mktemp("ward"))[0].path


@pytest.fixture
def path(untouched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(untouched, tmp_path / "trust"))


def lines(path: Path) -> list[bytes]:
    return (path / "log.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(path: Path, new: list[bytes]) -> None:
    (path / "log.jsonl").write_bytes(b"".join(new))


def test_a_whole_store_is_whole(path: Path) -> None:
    verdict = verify(path)
    assert str(verdict).startswith("whole, 0 erased: 15 events, 12 signed, 0 unattributed")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_log_is_found(untouched: Path, place: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(untouched, Path(folder) / "trust"))
        data = bytearray((path / "log.jsonl").read_bytes())
        place %= len(data)
        line = data.count(b"\n", 0, place) + 1
        data[place] ^= 1 << bit
        (path / "log.jsonl").write_bytes(data)
        verdict = verify(path)
        assert not verdict.whole
        assert verdict.line is not None and verdict.line <= line + 1


@pytest.mark.parametrize(
    ("how", "line"),
    [
        (lambda all: all[:4] + all[5:], 5),
        (lambda all: [*all[:4], all[5], all[4], *all[6:]], 5),
        (lambda all: [*all[:6], all[2], *all[6:]], 7),
        (lambda all: all[1:], 1),
        (lambda all: [*all[:3], b"{}\n", *all[3:]], 4),
    ],
    ids=["dropped", "reordered", "repeated", "beheaded", "inserted"],
)
def test_drops_and_reorderings_are_found(path: Path, how: Callable, line: int) -> None:
    rewrite(path, how(lines(path)))
    verdict = verify(path)
    assert not verdict.whole and verdict.line == line
    with pytest.raises(UserError, match=rf"log\.jsonl, row {line}"):
        Store(path)


def test_a_reordering_whose_chain_was_made_anew_repeats_signatures_but_not_the_seal(
    path: Path, tmp_path: Path
) -> None:
    store = Store(path)
    sealed, _ = seal(store, reviewer(tmp_path / "board", store, "board", "curator"))
    kept = tmp_path / "seal.json"
    kept.write_bytes(sealed.read_bytes())
    sealed.unlink()
    assert verify(path, [kept]).seals == 1

    new, prev = [], "0" * 64
    for seq, event in enumerate([store.events[0], *store.events[2:]]):  # one event left out
        statement = state(event.event, event.record, store.payload(event) or {}, event.actor)
        made = place(statement, seq, prev)
        object.__setattr__(made, "commitment", event.commitment)
        for name in ("ts", "signature"):
            object.__setattr__(made, name, getattr(event, name))
        object.__setattr__(made, "hash", chain_hash(prev, spelled(made.body)))
        prev = made.hash
        new.append(made.line)
    rewrite(path, new)
    assert verify(path).whole  # the chain alone cannot know
    verdict = verify(path, [kept])
    assert not verdict.whole and verdict.line == 2 and "rewritten" in verdict.problem


def test_a_cut_tail_is_found_by_the_seal_alone(path: Path, tmp_path: Path) -> None:
    store = Store(path)
    sealed, content = seal(store, reviewer(tmp_path / "board", store, "board", "curator"))
    kept = sealed.rename(tmp_path / "seal.json")
    rewrite(path, lines(path)[:-3])
    assert verify(path).whole
    verdict = verify(path, [kept], by=content["public"])
    assert not verdict.whole and verdict.line == 13 and "3 more events" in verdict.problem


def test_a_seal_must_be_the_right_ones_and_unaltered(path: Path, tmp_path: Path) -> None:
    store = Store(path)
    sealed, content = seal(store, reviewer(tmp_path / "board", store, "board", "curator"))
    with pytest.raises(UserError, match="signed by another key"):
        verify(path, [sealed], by="00" * 32)
    content["count"] -= 1
    (tmp_path / "altered.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="was altered"):
        verify(path, [tmp_path / "altered.json"])
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(UserError, match="no seal"):
        verify(path, [tmp_path / "none.json"])


def test_a_key_exchanged_in_the_register_is_found(path: Path, tmp_path: Path) -> None:
    store = Store(path)
    seal(store, reviewer(tmp_path / "board", store, "board", "curator"))
    register = json.loads((path / "reviewers.json").read_text())
    register["keys"] = {k: row for k, row in register["keys"].items() if row["reviewer"] != "board"}
    (path / "reviewers.json").write_text(json.dumps(register))
    verdict = verify(path)
    assert not verdict.whole and "of board is not in the register" in verdict.problem


def test_a_payload_changed_lost_or_not_of_its_schema_is_found(path: Path) -> None:
    payload = Store(path).payload_file("row-1")
    data = payload.read_bytes()
    payload.write_bytes(data.replace(b"Take 5", b"Take 6", 1))
    verdict = verify(path)
    assert (verdict.whole, verdict.line) == (False, 6) and "committed to" in verdict.problem
    payload.unlink()
    verdict = verify(path)
    assert (verdict.whole, verdict.line) == (False, 6) and "missing" in verdict.problem


@pytest.mark.seconds
def test_ten_thousand_events_validate_and_verify_in_five_seconds(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "trust")
    key = reviewer(tmp_path, store)
    statements = []
    for n in range(1000):
        statements += [create(f"row-{n}", n), *(score(f"row-{n}", key) for _ in range(9))]
    store.append(statements)
    started = time.process_time()
    verdict = verify(store.path)
    assert time.process_time() - started <= 5.0
    assert verdict.whole and (verdict.events, verdict.signed) == (10_000, 9_000)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (create("row-0"), "exists already"),
        (score("nobody", CURATOR), "no such record"),
        (score("row-0", CURATOR, value=7), r"7 is greater than the maximum of 5"),
        (score("row-0", {"id": "a@b.org", "role": "physician"}), r"`actor\.id`"),
        (score("row-0", {"id": "r-9", "role": "magician"}), r"`actor\.role`"),
        (create("new", bucket="gossip"), "`bucket`"),
        (state("revoke", "row-0", {}, CURATOR), "reason"),
        (state("create", "a b", {}, CURATOR), "`record`|oneOf|null"),
    ],
)
def test_what_is_malformed_is_refused_and_nothing_is_written(
    untouched: Path, statement: object, said: str
) -> None:
    before = (untouched / "log.jsonl").read_bytes()
    with pytest.raises(UserError, match=said):
        Store(untouched).append([create("fresh"), statement])  # type: ignore[list-item]
    assert (untouched / "log.jsonl").read_bytes() == before
    assert verify(untouched).whole


def test_nobody_signs_for_another_and_unknown_keys_are_named(path: Path, tmp_path: Path) -> None:
    store = Store(path)
    stranger = reviewer(tmp_path / "other", None, "r-9")
    with pytest.raises(UserError, match=r"nobody's here[\s\S]*primum trust enrol"):
        store.append([score("row-0", stranger)])
    store.register.add(stranger.row)
    forged = score("row-0", stranger)
    object.__setattr__(forged, "actor", {"id": "r-1", "role": "physician"})
    with pytest.raises(UserError, match="speaks for r-1"):
        store.append([forged])
    changed = score("row-0", stranger)
    object.__setattr__(changed, "ts", "2020-01-01T00:00:00Z")
    with pytest.raises(UserError, match="not one of r-9"):
        store.append([changed])
    said = score("row-0", stranger)
    store.append([said])
    with pytest.raises(UserError, match="word for word"):
        store.append([said])


def test_a_torn_last_line_was_never_acknowledged_and_the_next_append_clears_it(path: Path) -> None:
    whole = (path / "log.jsonl").read_bytes()
    (path / "log.jsonl").write_bytes(whole + b'{"actor":{"id":"x')
    verdict = verify(path)
    assert verdict.whole and verdict.events == 15 and "interrupted" in verdict.notes[0]
    store = Store(path)
    store.append([create("late")])
    assert verify(path).events == 16
    assert Store(path).events[-1].record == "late"


def test_an_interrupted_append_leaves_no_words_behind(path: Path) -> None:
    store = Store(path)
    target = store.payload_file("half")
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"%s %s {}\n" % (b"0" * 64, b"1" * 64))
    mine = store.payload_file("row-0")
    mine.write_bytes(mine.read_bytes() + b"torn ")
    names = [str(one.relative_to(store.path)) for one in (target, mine)]
    (path / "pending").write_text("\n".join(names))
    store.append([create("late")])
    assert not target.exists() and not (path / "pending").exists()
    assert mine.read_bytes().endswith(b"}\n")
    assert verify(path).whole
