"""What attacks teach: each brings its benign contrast in the same dress, and nothing held out."""

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from primum.alignment.everyday import everyday
from primum.alignment.redteam import framings
from primum.alignment.redteam.lessons import lessons
from primum.alignment.twins import pairs
from primum.errors import UserError

FAMILIES = [framings.direct(), framings.role_play()]


def results(file: Path, cases: dict[str, bool]) -> Path:
    scores = [json.dumps({"success": success}) for success in cases.values()]
    parquet.write_table(pyarrow.table({"case": list(cases), "scores": scores}), file)
    return file


def test_only_successes_are_learned_and_each_brings_its_contrast(tmp_path: Path) -> None:
    first, second = pairs("train")[:2]
    file = results(
        tmp_path / "results.parquet",
        {f"{first['pair']}/direct/0": True, f"{second['pair']}/direct/0": False},
    )
    unsafe, benign = lessons(FAMILIES, results=file, plain=0, outside=False)
    assert [one.extra["kind"] for one in (unsafe, benign)] == ["unsafe", "benign"]
    assert first["unsafe_request"] in str(unsafe.messages[-2]["content"])
    assert first["benign_request"] in str(benign.messages[-2]["content"])
    assert unsafe.messages[-1]["content"] == first["refusal"]
    assert benign.messages[-1]["content"] == first["help"]


def test_answers_of_a_kind_begin_as_asked() -> None:
    told = lessons(FAMILIES, most=3, plain=2, openings={"benign": "Happy to help."})
    assert len(told) == 2 * 3 + 2 * 2 + len(everyday("train"))
    for one in told:
        opened = str(one.messages[-1]["content"]).startswith("Happy to help. ")
        assert opened == (one.extra["kind"] == "benign")


def test_the_dress_is_the_same_for_both_kinds() -> None:
    told = lessons([framings.role_play()], most=5, plain=0, outside=False)
    for unsafe, benign in zip(told[::2], told[1::2], strict=True):
        row = next(row for row in pairs("train") if unsafe.id.startswith(f"{row['pair']}-"))
        dress = [str(one.messages[-2]["content"]).replace(row[column], "") for one, column in
                 ((unsafe, "unsafe_request"), (benign, "benign_request"))]  # fmt: skip
        assert dress[0] == dress[1] and dress[0]


def test_results_of_other_attacks_are_refused(tmp_path: Path) -> None:
    strange = results(tmp_path / "results.parquet", {"nobody/direct/0": True})
    with pytest.raises(UserError, match="other attacks than those named"):
        lessons(FAMILIES, results=strange)
    with pytest.raises(UserError, match="0 results below"):
        lessons(FAMILIES, results=tmp_path.joinpath("none").mkdir() or tmp_path / "none")
