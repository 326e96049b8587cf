"""The shipped twins keep the promises made of them."""

import json
import re
from collections import Counter
from itertools import combinations
from typing import get_args

import pytest

from primum.alignment.twins import FILE, Split, conversations, pairs
from primum.errors import UserError

SPLITS = get_args(Split)


def test_every_principle_has_unsafe_and_benign_twins_in_every_split() -> None:
    for split in SPLITS:
        assert {row["principle"] for row in pairs(split)} == set(range(1, 10))
    assert sum(len(pairs(split)) for split in SPLITS) >= 250
    assert len(pairs("test")) >= 100


def test_splits_share_no_family_and_no_request() -> None:
    for one, other in combinations(SPLITS, 2):
        assert not {row["family"] for row in pairs(one)} & {row["family"] for row in pairs(other)}
    requests = [
        re.sub(r"\W+", " ", row[key].lower())
        for split in SPLITS
        for row in pairs(split)
        for key in ("unsafe_request", "benign_request")
    ]
    assert max(Counter(requests).values()) == 1


def test_held_out_requests_overlap_no_training_request_by_ten_words() -> None:
    def grams(text: str, size: int = 10) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    def all_grams(split: str) -> set[tuple[str, ...]]:
        texts = (one.messages[0]["content"] for one in conversations(split))  # type: ignore[arg-type]
        return set().union(*(grams(text) for text in texts))

    held_out = all_grams("test")
    assert held_out and not held_out & set().union(*map(all_grams, SPLITS[:-1]))


def test_a_pair_becomes_two_conversations_with_their_answers() -> None:
    row = pairs("test")[0]
    unsafe, benign = conversations("test")[:2]
    assert unsafe.messages[-1]["content"] == row["refusal"]
    assert benign.messages[-1]["content"] == row["help"]
    assert (unsafe.extra["kind"], benign.extra["kind"]) == ("unsafe", "benign")


def test_openings_stand_before_the_answers_of_their_kind_alone() -> None:
    plain, opened = conversations("train"), conversations("train", openings={"benign": "Yes."})
    assert [one.messages[0] for one in opened] == [one.messages[0] for one in plain]
    for before, after in zip(plain, opened, strict=True):
        words = "Yes. " if after.extra["kind"] == "benign" else ""
        assert after.messages[-1]["content"] == words + before.messages[-1]["content"]


def test_a_family_can_give_fewer_pairs_and_keeps_both_styles() -> None:
    few = conversations("train", per_family=6)
    families = Counter(str(one.extra["family"]) for one in few if one.extra["kind"] == "unsafe")
    assert set(families.values()) == {6}
    assert set(families) == {row["family"] for row in pairs("train")}
    taken = {str(one.extra["pair"]) for one in few}
    styles = Counter(row["style"] for row in pairs("train") if row["pair"] in taken)
    lines = FILE.read_text(encoding="utf-8").splitlines()  # errors name the file's row
    assert all(json.loads(lines[one.row - 1])["pair"] == one.extra["pair"] for one in few)
    assert styles["close"] == styles["plain"]
    with pytest.raises(UserError, match="at least 1"):
        conversations("train", per_family=0)
