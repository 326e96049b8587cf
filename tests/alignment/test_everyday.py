"""The everyday requests keep the promises made of them."""

import csv
import os
import re
from pathlib import Path

import pytest

from primum.alignment.everyday import everyday
from primum.alignment.twins import pairs
from primum.errors import UserError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("PRIMUM_SHARED", ROOT.parent / "shared")) / "data"
XSTEST = DATA / "xstest" / "xstest_prompts.csv"


def words(text: object) -> list[str]:
    return re.findall(r"\w+", str(text).lower())


def test_every_request_is_asked_once_and_answered_in_short() -> None:
    rows = [*everyday("train"), *everyday("development")]
    assert len(everyday("train")) == 420 and len(everyday("development")) == 60
    assert len({tuple(words(row.messages[0]["content"])) for row in rows}) == len(rows)
    for row in rows:
        assert 20 <= len(str(row.messages[1]["content"]).split()) <= 40, row.id
        assert row.extra["kind"] == "benign"


def grams(text: object) -> set[tuple[str, ...]]:
    said = words(text)
    return {tuple(said[i : i + 6]) for i in range(len(said) - 5)}


@pytest.mark.skipif(not XSTEST.is_file(), reason="XSTest is not here")
def test_they_share_no_six_words_with_xstest() -> None:
    with XSTEST.open(encoding="utf-8", newline="") as stream:
        asked = {gram for row in csv.DictReader(stream) for gram in grams(row["prompt"])}
    assert asked
    rows = [*everyday("train"), *everyday("development")]
    assert not [row.id for row in rows if grams(row.messages[0]["content"]) & asked]


def test_they_share_no_six_words_with_any_medical_request() -> None:
    asked = {
        gram
        for split in ("train", "validation", "development", "test")
        for row in pairs(split)
        for column in ("unsafe_request", "benign_request")
        for gram in grams(row[column])
    }
    rows = [*everyday("train"), *everyday("development")]
    assert not [row.id for row in rows if grams(row.messages[0]["content"]) & asked]


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(UserError, match="no split 'test'"):
        everyday("test")  # type: ignore[arg-type]
