"""After an erasure nobody finds the words, the chain is whole, and who held them is named."""

import gzip
import html
import json
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet
from tests.alignment.trust.rows import CURATOR, create, edited, reviewer, score, ward

from primum.alignment.trust.erase import erase
from primum.alignment.trust.review import assign
from primum.alignment.trust.scrub import RUN, Words, runs, spellings
from primum.alignment.trust.scrub_database import cells
from primum.alignment.trust.store import Store
from primum.alignment.trust.verify import verify
from primum.alignment.trust.views import Selection, view, write_view
from primum.errors import UserError
from primum.judges.language_judge import EndpointJudge

SECRET = (
    'I am Ada "the Countess" Lovelace of 12 St James\'s Square;\n'
    "my naïve cousin <Byron> takes 40 mg & more of laudanum every night."
)


def holding(folder: Path) -> Store:
    """A store whose record `ada` was scored, edited, viewed, assigned and evaluated on."""
    store, key = ward(folder, 2)
    store.append(
        [
            create("ada", 7, prompt=[{"role": "user", "content": SECRET}]),
            score("ada", key, veto=True, veto_reason="Lovelace of St James's can be recognised"),
            edited("ada", key, "Please see a doctor about the Lovelace laudanum soon."),
            create("child", 8, answer=f"You said: {SECRET}", derived_from=["ada"]),
        ]
    )
    reviewer(folder, store, "r-2")
    write_view(store, "sft", folder / "views" / "sft.jsonl", Selection(admit="any"))
    write_view(store, "grpo_prompts", folder / "views" / "prompts.jsonl")
    assign(store, ["r-1", "r-2"], folder / "reviews")
    out = folder / "outputs"
    (out / "cache").mkdir(parents=True)
    rows = [
        {"case": "1", "answer": f"Dear Ada, {SECRET[10:80]}", "tags": {"cts_id": "x"}},
        {"case": "2", "answer": "no", "tags": {"cts_id": "ada"}},
        {"case": "3", "answer": "nothing of hers"},
    ]
    (out / "part-00000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "report.json").write_text(json.dumps({"cases": rows}, indent=2))
    (out / "report.html").write_text(f"<pre>{html.escape(SECRET)}</pre><p>kept words</p>")
    (out / "log.txt").write_text(f"epoch 1\n{SECRET}\nepoch 2\n")
    cells = [row | {"tags": json.dumps(row.get("tags"))} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(cells), out / "results.parquet")
    table = pyarrow.table({"text": [SECRET, "others' words that may well stay"]})
    judge = EndpointJudge("http://localhost:1/v1", "m", cache=out / "cache" / "replies.sqlite")
    with judge.replies as replies:
        replies.execute("INSERT INTO reply VALUES ('1', ?)", (f"She says: {SECRET * 40}",))
        replies.execute("INSERT INTO reply VALUES ('2', 'label: refusal')")
        replies.execute("INSERT INTO reply VALUES ('3', ?)", (SECRET,))
    with judge.replies as replies:
        replies.execute("DELETE FROM reply WHERE question = '3'")
    judge.replies.close()
    with ipc.new_file(str(out / "cache" / "data.arrow"), table.schema) as writer:
        writer.write_table(table)
    return store


def found(folder: Path, text: str) -> list[str]:
    """Files in which a run of the text stands, as it is or decoded."""
    hits = []
    wanted = {run for one in spellings(text) for run in runs(one)}
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        content = file.read_bytes().decode("utf-8", "replace")
        if file.suffix == ".sqlite":
            content += "".join(cells(file))
        if file.suffix == ".parquet":
            content += str(parquet.read_table(file).to_pylist())
        if any(run in wanted for run in runs(content)):
            hits.append(file.relative_to(folder).as_posix())
    return hits


def test_nobody_finds_the_words_and_the_chain_is_whole(tmp_path: Path) -> None:
    store = holding(tmp_path)
    assert len(found(tmp_path, SECRET)) >= 9
    done = erase(store, "ada", "consent withdrawn", CURATOR, [tmp_path / "outputs"])
    assert found(tmp_path, SECRET) == []
    assert found(tmp_path, "Lovelace of St James's can be recognised") == []
    assert (done.records, done.left) == (["ada", "child"], [])
    assert str(verify(store.path)).startswith("whole, 2 erased")
    held = {(kind, path.name) for kind, path, _ in done.holders}
    assert {
        ("view", "sft.jsonl"), ("view", "prompts.jsonl"), ("result", "part-00000.jsonl"),
        ("result", "results.parquet"), ("report", "report.json"), ("report", "report.html"),
        ("cache", "data.arrow"), ("cache", "replies.sqlite"), ("file", "log.txt"),
        ("review page", "review-r-1.html"),
    } <= held  # fmt: skip


def test_what_others_said_stays(tmp_path: Path) -> None:
    store = holding(tmp_path)
    kept = Store(store.path).payload_file("row-0").read_bytes()
    erase(store, "ada", "consent withdrawn", CURATOR, [tmp_path / "outputs"])
    assert Store(store.path).payload_file("row-0").read_bytes() == kept
    out = tmp_path / "outputs"
    rows = [json.loads(line) for line in (out / "part-00000.jsonl").read_text().splitlines()]
    assert [row["case"] for row in rows] == ["1", "3"]
    assert rows[0]["answer"].startswith("Dear Ada, ")
    cases = json.loads((out / "report.json").read_text())["cases"]
    assert [case["case"] for case in cases] == ["1", "3"]
    assert "kept words" in (out / "report.html").read_text()
    with ipc.open_file(str(out / "cache" / "data.arrow")) as reader:
        assert reader.read_all()["text"].to_pylist()[1] == "others' words that may well stay"
    sft = (tmp_path / "views" / "sft.jsonl").read_text().splitlines()
    assert [json.loads(row)["cts_id"] for row in sft] == ["row-0", "row-1"]
    assert [row["cts_id"] for row in view(store, "sft")] == ["row-0", "row-1"]


def test_an_interrupted_erasure_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = holding(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("primum.alignment.trust.erase._scrub", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(store, "ada", "consent withdrawn", CURATOR, [tmp_path / "outputs"])
    verdict = verify(store.path)
    assert not verdict.whole and "erase it again" in verdict.problem
    erase(Store(store.path), "ada", "consent withdrawn", CURATOR, [tmp_path / "outputs"])
    assert found(tmp_path, SECRET) == []
    assert verify(store.path).whole
    with pytest.raises(UserError, match="erased before"):
        erase(Store(store.path), "ada", "again", CURATOR)
    with pytest.raises(UserError, match="was erased"):
        store.append([score("ada", CURATOR)])


def test_what_cannot_be_rewritten_is_named(tmp_path: Path) -> None:
    store = holding(tmp_path)
    packed = tmp_path / "outputs" / "old.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps({"q": SECRET}).encode()))
    done = erase(store, "ada", "consent withdrawn", CURATOR, [tmp_path / "outputs"])
    assert done.left == [packed]


def test_a_reason_must_not_repeat_the_words(tmp_path: Path) -> None:
    store = holding(tmp_path)
    with pytest.raises(UserError, match="reasons are kept"):
        erase(store, "ada", f"she said {SECRET[:30]}", CURATOR)
    with pytest.raises(UserError, match="no record"):
        erase(store, "nobody", "consent withdrawn", CURATOR)
    assert verify(store.path).erased == 0


def test_words_that_another_record_shares_are_told_of(tmp_path: Path) -> None:
    store = holding(tmp_path)
    store.append([create("again", 9, prompt=[{"role": "user", "content": SECRET}])])
    done = erase(store, "ada", "consent withdrawn", CURATOR, [tmp_path / "outputs"])
    assert done.alike["again"] > 0.2 and found(tmp_path, SECRET)  # ... with its owner
    done = erase(store, "again", "the same person", CURATOR, [tmp_path / "outputs"])
    assert found(tmp_path, SECRET) == [] and "ada" not in done.alike


@settings(max_examples=80, deadline=None)
@given(st.text(st.sampled_from("ab\"'<&é\n\\ "), min_size=RUN, max_size=60), st.text(max_size=40))
def test_no_spelling_of_a_run_survives(secret: str, around: str) -> None:
    words = Words([secret])
    for spelled in spellings(secret):
        left = words.mask(around + spelled + around)
        assert not words.are_in(left)
        assert len(left) == len(around + spelled + around)


def test_common_phrases_are_left_in_others_rows_and_pages(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "trust")
    phrase = (
        'I\'m "really" sorry to hear that.\n\nIt is <important> to remember: you are not alone & '
    )
    for n in range(4):
        own = "".join(chr(97 + (n * 7 + i * i) % 26) for i in range(300))
        store.append([create(f"row-{n}", n, answer=phrase + own)])
    write_view(store, "sft", tmp_path / "sft.jsonl", Selection(admit="any"))
    before = (tmp_path / "sft.jsonl").read_text().splitlines()
    done = erase(store, "row-0", "consent withdrawn", CURATOR)
    assert (tmp_path / "sft.jsonl").read_text().splitlines() == before[1:]
    assert done.left == [] and done.alike.keys() <= {"row-1", "row-2", "row-3"}
