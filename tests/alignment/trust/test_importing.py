"""Rows from elsewhere, with line numbers for those that are malformed."""

import csv
import json
import os
from pathlib import Path

import pytest
from tests.alignment.trust.rows import AFTER, BEFORE, create, reviewer, score

from primum.alignment.trust.importing import (
    Origin,
    import_edits,
    import_label_studio,
    import_rows,
    known_origin,
)
from primum.alignment.trust.records import records
from primum.alignment.trust.store import Store
from primum.alignment.trust.verify import verify
from primum.alignment.trust.views import Selection, view
from primum.errors import UserError

DATA = Path(os.environ.get("PRIMUM_SHARED", Path(__file__).parents[3].parent / "shared"), "data")
ORIGIN = Origin("ward", "CC0-1.0", "knowledge")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "trust")


def write(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_conversations_become_records_once(store: Store, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "How much?"},
        {"role": "assistant", "content": "<think>5?</think>\n5 mg."},
    ]
    file = write(tmp_path / "rows.jsonl", [{"messages": turns, "kind": "benign"}] * 2)
    done = import_rows(store, file, ORIGIN)
    assert (done.created, done.known) == (2, 0)  # two rows of a file are two items
    assert (import_rows(store, file, ORIGIN).created, verify(store.path).events) == (0, 2)
    record = next(iter(records(store).values()))
    assert (record.now.reasoning, record.now.answer) == ("5?", "5 mg.")
    assert record.row["kind"] == "benign"
    assert record.row["source"]["item_id"] == "rows.jsonl:1"


def test_a_preference_pair_comes_back_as_one(store: Store, tmp_path: Path) -> None:
    row = {"prompt": "How much?", "chosen": AFTER, "rejected": BEFORE}
    assert import_rows(store, write(tmp_path / "p.jsonl", [row]), ORIGIN).edits == 1
    (pair,) = view(store, "pref_pairs", Selection(admit="any"))
    assert [pair[side][0]["content"] for side in ("chosen", "rejected")] == [AFTER, BEFORE]


@pytest.mark.skipif(not (DATA / "star1").is_dir(), reason="STAR-1 is not here")
@pytest.mark.seconds
def test_star1_comes_with_its_scores(store: Store) -> None:
    file = DATA / "star1" / "STAR-1.json"
    origin = Origin(**known_origin(file))
    assert (origin.dataset, origin.licence) == ("STAR-1", "Apache-2.0")
    done = import_rows(store, file, origin)
    assert (done.created, done.scores) == (1000, 1000)
    verdict = verify(store.path)
    assert verdict.whole and verdict.unattributed == 1000
    found = list(records(store).values())
    assert all(record.mean() == 5.0 for record in found)  # ten of ten, on our scale
    assert all(record.now.reasoning and "<think>" not in record.now.answer for record in found)
    assert len(view(store, "sft", Selection(admit="scored"))) == 1000


@pytest.mark.skipif(not (DATA / "medsafetybench").is_dir(), reason="MedSafetyBench is not here")
def test_medsafetybench_is_known_by_its_columns(store: Store) -> None:
    file = DATA / "medsafetybench/test/gpt4/med_safety_demonstrations_category_1.csv"
    origin = Origin(**known_origin(file))
    assert (origin.dataset, origin.bucket, origin.kind) == ("MedSafetyBench", "guard", "unsafe")
    assert import_rows(store, file, origin).created == 50
    train = DATA / "medsafetybench/train/ft_safety_med_n900.json"
    assert known_origin(train)["dataset"] == "MedSafetyBench"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": []}, "row 2"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, r"row 2"),
        ({"nothing": 1}, "row 2"),
    ],
)
def test_a_malformed_row_is_named_and_nothing_is_imported(
    store: Store, tmp_path: Path, row: dict, said: str
) -> None:
    good = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(UserError, match=said):
        import_rows(store, write(tmp_path / "rows.jsonl", [{"messages": good}, row]), ORIGIN)
    assert store.events == []


def edits_file(path: Path, *rows: dict) -> Path:
    names = ["item_id", "after", "reviewer", "role", "reason_code", "severity"]
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_edits_from_a_csv_file_follow_each_other(store: Store, tmp_path: Path) -> None:
    store.append([create("row", 7)])
    key = reviewer(tmp_path, store)
    common = {"item_id": "7", "reviewer": "r-1", "role": "physician", "reason_code": "unsafe_dose"}
    file = edits_file(
        tmp_path / "edits.csv",
        common | {"after": AFTER, "severity": 3},
        common | {"after": AFTER + "\nSee us soon, please.", "severity": 1, "reviewer": "r-5"},
    )
    assert import_edits(store, file, key).edits == 2
    record = records(store)["row"]
    assert record.now.answer.endswith("soon, please.") and not record.disputed
    assert [one.signed for one in record.edits] == [True, False]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"item_id": "99"}, "no record '99'"),
        ({"severity": "9"}, "severity"),
        ({"reason_code": "dislike"}, "reason_code"),
        ({"role": "magician"}, "magician"),
    ],
)
def test_a_bad_edit_is_named_by_its_row(
    store: Store, tmp_path: Path, changed: dict, said: str
) -> None:
    store.append([create("row", 7), create("row-8", 8)])
    row = {"item_id": "7", "after": AFTER, "reviewer": "r-1", "role": "physician"}
    row |= {"reason_code": "other", "severity": "1"}
    file = edits_file(tmp_path / "edits.csv", row | {"item_id": "8"}, row | changed)
    with pytest.raises(UserError, match=said) as told:
        import_edits(store, file)
    assert told.value.row == 3 and len(store.events) == 2


def test_label_studio(store: Store, tmp_path: Path) -> None:
    store.append([create("row", 7)])
    ratings = [
        {"from_name": name, "type": "rating", "value": {"rating": 4}}
        for name in ("medical_correctness", "clinical_utility")
    ]
    result = [
        *ratings,
        {"from_name": "answer", "type": "textarea", "value": {"text": [AFTER]}},
        {"from_name": "decision", "type": "choices", "value": {"choices": ["accepted"]}},
    ]
    annotation = {"completed_by": 3, "created_at": "2026-03-01T10:00:00.123Z", "result": result}
    file = tmp_path / "export.json"
    file.write_text(json.dumps([{"data": {"cts_id": "row"}, "annotations": [annotation]}]))
    done = import_label_studio(store, file)
    assert (done.scores, done.edits) == (1, 1)
    record = records(store)["row"]
    assert (record.standing(), record.now.answer, record.scores[0].who) == (
        "accepted",
        AFTER,
        "ls-3",
    )
    assert record.scores[0].event.ts == "2026-03-01T10:00:00Z"
    assert import_label_studio(store, file).known == 1
    file.write_text(json.dumps([{"data": {"cts_id": "other"}}]))
    with pytest.raises(UserError, match=r"row 1"):
        import_label_studio(store, file)


def test_scores_on_a_record_say_how_reviewers_agree(store: Store) -> None:
    from primum.alignment.trust.reviewers import summary, who_reviewed

    one, two = ({"id": name, "role": "physician"} for name in ("r-1", "r-2"))
    store.append([create("row", 1), create("alone", 2)])
    store.append([score("row", one, 4), score("row", two, 4), score("alone", one, 1)])
    store.append([score("alone", two, 5, AFTER, veto=True, veto_reason="harm")])  # another version
    table = {row["reviewer"]: row for row in who_reviewed(records(store))}
    assert (table["r-1"]["rows"], table["r-1"]["double_scored"]) == (2, 0.5)
    assert table["r-1"]["agreement"]["value"] == 1.0 and table["r-1"]["agreement"]["n"] == 5
    assert table["r-2"]["open_vetoes"] == 0  # that version never was
    assert summary(store, records(store))["open"] == 2
