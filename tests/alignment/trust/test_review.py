"""A review, from the assignment over the page in a real browser to signed events."""

import contextlib
import json
import time
from pathlib import Path

import pytest
from tests.alignment.trust.browser import BACKSPACE, CHROME, CONTROL, DRIVER, ENTER, browser
from tests.alignment.trust.rows import AFTER, BEFORE, CURATOR, create, reviewer, score

from primum.alignment.trust.canonical import text_sha256
from primum.alignment.trust.records import records
from primum.alignment.trust.review import assign, collect, deal, read_review, sign
from primum.alignment.trust.store import Store
from primum.alignment.trust.verify import verify
from primum.alignment.trust.views import view
from primum.errors import UserError

NASTY = "</script><script>document.title='owned'</script> & <b>bold</b>"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "trust")
    for n in range(4):
        prompt = [{"role": "user", "content": f"{NASTY} {n}"}]
        store.append([create(f"row-{n}", n, prompt=prompt, generator={"model": "secret-model"})])
    return store


def test_dealing_shares_the_overlap_and_balances_the_rest() -> None:
    rows = [f"row-{n}" for n in range(100)]
    dealt = deal(rows, ["a", "b", "c"], 0.2, seed=1)
    assert sorted(map(len, dealt.values())) == [40, 40, 40]
    given = [row for own in dealt.values() for row in own]
    assert len(set(given)) == 100 and sum(given.count(row) == 2 for row in rows) == 20
    assert all(len(own) == len(set(own)) for own in dealt.values())
    assert dealt == deal(rows, ["a", "b", "c"], 0.2, seed=1) != deal(rows, ["a", "b", "c"], 0.2, 2)


def test_a_page_is_blinded_and_asks_nobody_for_anything(store: Store, tmp_path: Path) -> None:
    reviewer(tmp_path, store)
    store.append([score("row-0", CURATOR, 1)])
    (page,) = assign(store, ["r-1"], tmp_path / "reviews", overlap=0).values()
    text = page.read_text()
    assert "secret-model" not in text and "curator" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert NASTY not in text
    assert [row["kind"] for row in store.holders()] == ["review page"]


def test_who_may_review_is_checked(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no reviewer `r-1` \(known: none\)[\s\S]*enrol"):
        assign(store, ["r-1"], tmp_path)
    reviewer(tmp_path, store)
    with pytest.raises(UserError, match="--overlap 0"):
        assign(store, ["r-1"], tmp_path)


def export(path: Path, **changed: object) -> Path:
    values = {name: 3 for name in (
        "medical_correctness", "reasoning_structure", "information_sufficiency",
        "terminology_language", "clinical_utility",
    )}  # fmt: skip
    row = {
        "record": "row-0", "text_sha256": text_sha256("", BEFORE), "values": values, "ethics": {},
        "veto": False, "veto_reason": "", "decision": "accepted", "seconds": 30.0,
        "at": "2026-05-01T10:00:00Z",
        "edit": {"answer": AFTER, "reason_code": "unsafe_dose", "severity": 3},
        "before": {"reasoning": "", "answer": BEFORE},
    }  # fmt: skip
    content = {"schema": "cts-review/1", "reviewer": "r-1", "role": "physician", "blinded": True}
    path.write_text(json.dumps(content | {"rows": [row | changed]}))
    return path


def test_a_review_is_signed_offline_and_collected_once(store: Store, tmp_path: Path) -> None:
    key = reviewer(tmp_path, store)
    sign(export(tmp_path / "export.json"), key, tmp_path / "signed.json")
    done = collect(store, read_review(tmp_path / "signed.json"))
    assert (done.events, done.known, done.stale) == (3, 0, [])
    assert verify(store.path).signed == 3
    assert view(store, "sft")[0]["messages"][-1]["content"] == AFTER
    again = collect(store, read_review(export(tmp_path / "export.json"), key))
    assert (again.events, again.known) == (0, 3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"values": {"medical_correctness": 9}}, "score of this row is malformed"),
        ({"decision": "liked"}, "decision of this row is malformed"),
        ({"veto": True, "veto_reason": ""}, "malformed"),
        ({"edit": {"answer": AFTER}}, "reason_code"),
    ],
)
def test_a_malformed_review_names_its_row(tmp_path: Path, changed: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as told:
        read_review(export(tmp_path / "export.json", **changed))
    assert told.value.row == 1


def test_reviews_of_others_and_of_unknown_rows_are_refused(store: Store, tmp_path: Path) -> None:
    other = reviewer(tmp_path, store, "r-2")
    with pytest.raises(UserError, match="the key of r-2"):
        read_review(export(tmp_path / "export.json"), other)
    with pytest.raises(UserError, match="no such record"):
        collect(store, read_review(export(tmp_path / "export.json", record="row-77")))
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(UserError, match="no export"):
        read_review(tmp_path / "export.json")


def test_a_review_of_a_text_that_has_changed_is_told_of(store: Store, tmp_path: Path) -> None:
    collect(store, read_review(export(tmp_path / "one.json")))
    late = read_review(export(tmp_path / "two.json", at="2026-05-02T10:00:00Z"))
    assert collect(store, late).stale == ["row-0"]
    assert len(records(store)["row-0"].open_disputes()) == 1


@pytest.mark.process
@pytest.mark.skipif(CHROME is None or DRIVER is None, reason="no chromium with chromedriver here")
def test_six_keys_a_row_in_a_real_browser(store: Store, tmp_path: Path) -> None:
    key = reviewer(tmp_path, store)
    (page,) = assign(store, ["r-1"], tmp_path / "reviews", overlap=0).values()
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with browser(downloads) as chrome:
        chrome.open(page)
        assert chrome.run("return document.title") == "Review"  # no row has escaped its script
        assert NASTY in chrome.run("return document.querySelector('.turn').textContent")
        chrome.press("5", "4", "5", "4", "5", "a")  # a row in six keys
        assert chrome.run("return document.body.dataset.done") == "1"
        chrome.press("1", "2", BACKSPACE, "3", "0", "2", "1", "a")  # ... in eight, with a mistake
        assert chrome.run("return document.body.dataset.done") == "2"
        chrome.press("a")
        assert "Not scored yet" in chrome.run("return document.getElementById('said').textContent")
        chrome.press("e")
        chrome.run(f"document.getElementById('answer').value = {json.dumps(AFTER)}")
        chrome.run("document.getElementById('reason').value = 'unsafe_dose'")
        chrome.run("document.getElementById('severity').value = '3'")
        chrome.press(f"{CONTROL}+{ENTER}", *"44444a")
        chrome.press("v", *"bad")
        chrome.press(f"{CONTROL}+{ENTER}", *"11111a")
        assert "vetoed" in chrome.run("return document.getElementById('said').textContent")
        chrome.call("POST", f"/session/{chrome.session}/refresh", {})  # nothing is lost
        alert = f"/session/{chrome.session}/alert/accept"
        with contextlib.suppress(OSError):  # headless browsers do not ask
            chrome.call("POST", alert, {})
        assert chrome.run("return document.body.dataset.done") == "3"
        chrome.press("r")
        assert chrome.run("return document.body.dataset.done") == "4"
        chrome.press("s")
        for _ in range(100):
            if files := list(downloads.glob("review-r-1-*.json")):
                break
            time.sleep(0.1)
    (file,) = files
    done = collect(store, read_review(file, key))
    assert (done.events, done.stale) == (9, [])
    found = records(store)
    assert [one.standing() for one in found.values()].count("accepted") == 3
    (edited,) = (one for one in found.values() if one.edits)
    assert edited.now.answer == AFTER
    (vetoed,) = (one for one in found.values() if one.open_vetoes())
    assert vetoed.scores[0].payload["veto_reason"] == "bad"
    (slip,) = (one for one in found.values() if None in one.scores[0].payload["values"].values())
    assert list(slip.scores[0].payload["values"].values()).count(3) == 1
    assert verify(store.path).signed == 9
