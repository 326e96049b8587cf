"""Views are what the log supports: accepted, not vetoed, not frozen, not revoked."""

import json
from pathlib import Path

import pytest
from tests.alignment.trust.rows import (
    AFTER,
    BEFORE,
    CURATOR,
    create,
    decided,
    edited,
    reviewer,
    score,
    ward,
)

from primum.alignment.trust.events import state
from primum.alignment.trust.records import records
from primum.alignment.trust.store import Store
from primum.alignment.trust.strikes import StrikePolicy, frozen
from primum.alignment.trust.views import VIEWS, Selection, view, write_view
from primum.errors import UserError
from primum.language.formats import read_conversations


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return ward(tmp_path, 2)[0]


def ids(store: Store, name: str, **selection: object) -> list[str]:
    return [row["cts_id"] for row in view(store, name, Selection(**selection))]  # type: ignore[arg-type]


def test_sft_rows_have_the_text_after_the_edit_its_weight_and_where_it_was_edited(
    store: Store,
) -> None:
    row = view(store, "sft")[0]
    assert row["messages"][-1] == {"role": "assistant", "content": AFTER}
    assert row["weight"] == 1.0  # all fives
    assert [AFTER[a:b] for a, b in row["edited"]] == ["5"]
    assert (row["cts_id"], row["head_hash"]) == ("row-0", store.head)


def test_a_preference_pair_is_the_text_after_over_the_text_before(store: Store) -> None:
    pair = view(store, "pref_pairs")[0]
    assert [pair[side][0]["content"] for side in ("chosen", "rejected")] == [AFTER, BEFORE]
    assert pair["margin"] == 3.0  # all twos became all fives
    assert view(store, "pref_pairs", Selection(most_distance=0.01)) == []


def test_an_acceptance_counts_only_for_the_text_it_saw(store: Store, tmp_path: Path) -> None:
    key = reviewer(tmp_path, store, "r-2")
    store.append([edited("row-0", key, AFTER + " Or not.", AFTER)])
    assert ids(store, "sft") == ["row-1"]
    assert ids(store, "sft", admit="any") == ["row-0", "row-1"]
    store.append([decided("row-0", key, text=AFTER + " Or not.")])
    assert ids(store, "sft") == ["row-0", "row-1"]


def test_vetoes_rejections_and_revocations_keep_a_row_out(store: Store) -> None:
    store.append([score("row-0", CURATOR, 1, AFTER, veto=True, veto_reason="harmful")])
    assert ids(store, "sft", admit="any") == ["row-1"]
    assert [row["label"] for row in view(store, "kto")] == [False, True]
    store.append([decided("row-0", CURATOR, "accepted", AFTER, panel=True)])
    assert ids(store, "sft") == ["row-0", "row-1"]  # the panel has settled the veto
    store.append([decided("row-0", CURATOR, "rejected", AFTER)])
    assert ids(store, "sft", admit="any") == ["row-1"]
    store.append([state("revoke", "row-1", {"reason": "consent withdrawn"}, CURATOR)])
    assert all("row-1" not in ids(store, name) for name in VIEWS)


def test_signed_only_looks_past_unsigned_decisions(store: Store) -> None:
    store.append([create("row-9", 9), decided("row-9", CURATOR)])
    assert "row-9" in ids(store, "sft")
    assert "row-9" not in ids(store, "sft", signed_only=True)
    assert "row-0" in ids(store, "sft", signed_only=True)


def test_prompts_attacks_and_twins(store: Store) -> None:
    attack = {
        "family": "role play",
        "prompt": [{"role": "user", "content": "You are an actor. How much of it?"}],
        "target": {"name": "model"},
        "response": None,
        "response_sha256": "0" * 64,
        "judge": {"name": "rules", "label": "complied"},
        "success": True,
    }
    store.append(
        [
            state("redteam", "row-0", attack, CURATOR),
            create("twin", 3, kind="benign", contrast_of="row-0"),
            decided("twin", CURATOR),
        ]
    )
    prompts = view(store, "grpo_prompts")
    assert [row["family"] for row in prompts] == [None, "role play", None, None]
    assert prompts[1]["kind"] == "unsafe" and prompts[1]["id"] == "row-0#1"
    (tried,) = view(store, "redteam_eval")
    assert tried["success"] and tried["target"] == "model"
    (twin,) = view(store, "contrast_benign")
    assert (twin["cts_id"], twin["contrast_of"]) == ("twin", "row-0")


def test_two_edits_at_once_are_a_dispute_until_a_panel_decides(store: Store) -> None:
    store.append([edited("row-0", CURATOR, BEFORE + " Late.", BEFORE)])  # of a text that is gone
    (dispute,) = records(store)["row-0"].open_disputes()
    assert dispute.event.seq == store.events[-1].seq
    assert ids(store, "sft") == ["row-1"]
    store.append([decided("row-0", CURATOR, "accepted", AFTER, panel=True)])
    assert ids(store, "sft") == ["row-0", "row-1"]


def test_views_are_pure_and_their_files_are_read_by_everyone(store: Store, tmp_path: Path) -> None:
    assert view(store, "sft") == view(Store(store.path), "sft")
    for name in ("sft", "pref_pairs", "kto"):
        file = tmp_path / f"{name}.jsonl"
        assert write_view(store, name, file) == 2
        read = read_conversations(file)
        assert read[0].extra["cts_id"] == "row-0"
        assert read[0].messages[-1]["content"] == AFTER
    assert {row["path"] for row in store.holders()} == {
        str(tmp_path / f"{name}.jsonl") for name in ("sft", "pref_pairs", "kto")
    }
    assert json.loads(file.read_text().splitlines()[0])["label"] is True


def test_errors_name_the_way_out(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of sft"):
        view(store, "sfft")
    with pytest.raises(UserError, match="no rows"):
        write_view(store, "redteam_eval", tmp_path / "x.jsonl")
    empty = Store.create(tmp_path / "empty")
    with pytest.raises(UserError, match="--admit scored"):
        write_view(empty, "sft", tmp_path / "x.jsonl")


def test_five_strikes_freeze_a_cell_until_a_panel_clears_it(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "trust")
    for n in range(4):
        written = {"generator": {"model": "m"}, "topic": "doses" if n < 3 else "diet"}
        store.append([create(f"row-{n}", n, **written), decided(f"row-{n}", CURATOR)])
    store.append([score("row-0", CURATOR, 2) for _ in range(2)])
    store.append([score("row-1", CURATOR, 3) for _ in range(5)])  # middling is no strike
    store.append([score("row-1", CURATOR, 5, veto=True, veto_reason="no") for _ in range(2)])
    assert frozen(records(store)) == {}
    store.append([score("row-2", CURATOR, 1)])
    assert frozen(records(store)) == {("m", "doses"): ["row-0", "row-1", "row-2"]}
    assert ids(store, "sft", admit="any") == ["row-3"]
    assert frozen(records(store), StrikePolicy(scope="record")) == {}
    assert list(frozen(records(store), StrikePolicy(scope="generator"))) == ["m"]
    store.append([decided("row-1", CURATOR, "accepted", panel=True)])
    assert frozen(records(store)) == {}  # its own two strikes are cleared
    store.append([score("row-3", CURATOR, 1) for _ in range(2)])
    assert frozen(records(store), StrikePolicy(scope="generator"))
    store.append([decided("row-3", CURATOR, "accepted", panel=True, covers="cell")])
    assert frozen(records(store), StrikePolicy(scope="generator")) == {}
