"""Two copies of a store that went on apart become one, or their conflicts are listed."""

import shutil
from pathlib import Path

import pytest
from tests.alignment.trust.rows import (
    AFTER,
    CURATOR,
    create,
    decided,
    edited,
    reviewer,
    score,
    ward,
)

from primum.alignment.trust.erase import erase
from primum.alignment.trust.events import state
from primum.alignment.trust.merge import merge
from primum.alignment.trust.store import Store
from primum.alignment.trust.verify import verify
from primum.alignment.trust.views import view
from primum.errors import UserError


@pytest.fixture
def forked(tmp_path: Path) -> tuple[Store, Store]:
    store, _ = ward(tmp_path)
    other = Path(shutil.copytree(store.path, tmp_path / "copy"))
    return store, Store(other)


def test_what_each_added_is_there_with_its_signature(
    forked: tuple[Store, Store], tmp_path: Path
) -> None:
    store, other = forked
    late = reviewer(tmp_path, other, "r-2", "ethicist")
    store.append([create("ours", 7)])
    other.append([create("theirs", 8), score("theirs", late), score("row-0", late, 3, AFTER)])
    with pytest.raises(UserError, match=r"r-2 \(ethicist\)[\s\S]*primum trust enrol"):
        merge(store, other, CURATOR)
    store.register.add(late.row)
    done = merge(store, other, CURATOR)
    assert (done.common, done.taken, done.conflicts) == (15, 3, [])
    verdict = verify(store.path)
    assert verdict.whole and verdict.signed == 14
    assert {"ours", "theirs"} <= store.records
    assert store.events[-1].event == "merge"
    assert merge(store, other, CURATOR).taken == 0  # once is enough


def test_conflicts_are_listed_and_nothing_is_changed(forked: tuple[Store, Store]) -> None:
    store, other = forked
    for one, words in ((store, " Daily."), (other, " Weekly.")):
        one.append([edited("row-0", CURATOR, AFTER + words, AFTER)])
    store.append([decided("row-1", CURATOR, "accepted", AFTER)])
    other.append([decided("row-1", CURATOR, "rejected", AFTER)])
    other.append([state("revoke", "row-2", {"reason": "wrong ward"}, CURATOR)])
    before = store.log.read_bytes()
    with pytest.raises(UserError) as told:
        merge(store, other, CURATOR)
    for words in (
        "part after event 15",
        "row-0: both sides edited it",
        "row-1: accepted here, rejected there",
    ):
        assert words in str(told.value)
    assert store.log.read_bytes() == before

    done = merge(store, other, CURATOR, escalate=True)
    assert [one.record for one in done.conflicts] == ["row-0", "row-1"]
    assert verify(store.path).whole
    assert view(store, "sft") == []  # escalated, escalated, revoked
    store.append([decided("row-0", CURATOR, "accepted", AFTER + " Daily.", panel=True)])
    assert [row["cts_id"] for row in view(store, "sft")] == ["row-0"]


def test_what_one_side_erased_is_erased(forked: tuple[Store, Store]) -> None:
    store, other = forked
    erase(other, "row-0", "consent withdrawn", CURATOR)
    erase(store, "row-1", "consent withdrawn", CURATOR)
    store.append([score("row-0", CURATOR, 3, AFTER)])
    other.append([score("row-1", CURATOR, 3, AFTER)])
    merge(store, other, CURATOR)
    assert store.erased == {"row-0", "row-1"}
    assert str(verify(store.path)).startswith("whole, 2 erased")
    assert not store.payload_file("row-0").exists()


def test_logs_that_begin_differently_do_not_merge(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    store, other = ward(tmp_path / "a")[0], ward(tmp_path / "b")[0]
    with pytest.raises(UserError, match="do not begin alike"):
        merge(store, other, CURATOR)
