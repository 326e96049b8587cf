"""Rows survive a crash: what is written is whole, what is torn is written again."""

import json
import resource
from dataclasses import asdict
from pathlib import Path

import pytest

from primum.benchmarks.cases import Case
from primum.benchmarks.results import (
    Result,
    ResultPart,
    in_order,
    read_parquet,
    read_parts,
    write_parquet,
)
from primum.errors import UserError

GOLDEN = Path(__file__).parent / "golden"


def result(case: str, **fields: object) -> Result:
    given = {"prompt_sha256": "0" * 64, "candidate": "m@1", "answer": f"answer to {case}"}
    return Result(case=case, **(given | fields))


def test_batches_are_read_back(tmp_path: Path) -> None:
    part = ResultPart(tmp_path)
    part.append([result("a", scores={"refused": True}), result("b", answer="line\nbreak \u2028 é")])
    part.append([result("c", verdicts={"j": {"label": "x", "evidence": "y"}})])
    part.close()
    found = read_parts(tmp_path)
    assert list(found) == ["a", "b", "c"]
    assert found["b"].answer == "line\nbreak \u2028 é" and found["a"].scores == {"refused": True}


@pytest.mark.parametrize("torn", [b'{"schema_version": 1, "ca', b"\x00\x00", b'{"case": "b"}'])
def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path: Path, torn: bytes) -> None:
    part = ResultPart(tmp_path)
    part.append([result("a")])
    part.close()
    with part.path.open("ab") as stream:
        stream.write(torn)
    assert list(read_parts(tmp_path)) == ["a"]
    again = ResultPart(tmp_path)
    again.append([result("b")])
    again.close()
    assert list(read_parts(tmp_path)) == ["a", "b"]


def test_a_part_without_a_result_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "evaluate" / "benchmark" / "candidate" / "key" / "results"
    ResultPart(folder).close()
    assert list(tmp_path.rglob("*")) == [tmp_path / "evaluate"]


def test_another_ranks_results_are_left_alone(tmp_path: Path) -> None:
    other, mine = ResultPart(tmp_path, rank=0), ResultPart(tmp_path, rank=1)
    other.append([result("a")])
    mine.close()
    other.close()
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.jsonl"]


def test_of_a_batch_that_does_not_fit_nothing_is_kept(tmp_path: Path) -> None:
    part = ResultPart(tmp_path)
    part.append([result("a")])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (part.path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(UserError, match="disk is full"):
            part.append([result("b"), result("c", answer="long " * 100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert part.path.read_bytes().count(b"\n") == 1 and part.path.read_bytes().endswith(b"\n")
    part.append([result("b")])  # there is room again
    part.close()
    assert list(read_parts(tmp_path)) == ["a", "b"]


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    part = ResultPart(tmp_path)
    part.append([result("a"), result("b")])
    part.close()
    lines = part.path.read_text().splitlines()
    part.path.write_text(lines[0] + "\n{broken\n" + lines[1] + "\n")
    with pytest.raises(UserError) as caught:
        read_parts(tmp_path)
    assert caught.value.row == 2 and str(part.path) in str(caught.value)


def test_two_evaluations_cannot_share_a_file(tmp_path: Path) -> None:
    first = ResultPart(tmp_path)
    with pytest.raises(UserError, match="Another evaluation"):
        ResultPart(tmp_path)
    ResultPart(tmp_path, rank=1).close()
    first.close()
    ResultPart(tmp_path).close()


def test_each_case_counts_once_whoever_wrote_it(tmp_path: Path) -> None:
    for rank, answers in enumerate((["a", "b"], ["b", "c"])):
        part = ResultPart(tmp_path, rank)
        part.append(result(case, answer=f"{case}{rank}") for case in answers)
        part.close()
    assert [one.answer for one in read_parts(tmp_path).values()] == ["a0", "b0", "c1"]


def test_missing_and_foreign_results_are_refused(tmp_path: Path) -> None:
    case = Case("a", ({"role": "user", "content": "hello"},))
    with pytest.raises(UserError, match="1 of 1 cases have no result"):
        in_order([case], {}, tmp_path)
    with pytest.raises(UserError, match="another prompt"):
        in_order([case], {"a": result("a")}, tmp_path)


def test_parquet_keeps_every_field(tmp_path: Path) -> None:
    rows = [
        result(
            "a", scores={"refused": True, "sum_logprob": -3.5}, tags={"family": "f"}, seconds=0.5
        ),
        result("b", finish="length", tokens=4, verdicts={"j": {"label": "x", "evidence": "y"}}),
    ]
    write_parquet(rows, tmp_path / "results.parquet")
    assert read_parquet(tmp_path / "results.parquet") == rows
    (tmp_path / "other.parquet").write_text("no")
    with pytest.raises(UserError, match="cannot be read"):
        read_parquet(tmp_path / "other.parquet")


def test_rows_of_version_1_are_read() -> None:
    found = read_parts(GOLDEN)
    assert list(found) == ["p1-unsafe", "p1-benign"]
    row = json.loads((GOLDEN / "part-v1.jsonl").read_text().splitlines()[0])
    assert asdict(found["p1-unsafe"]) == row | {"record": {}}  # what came later is empty


def test_rows_of_a_later_version_are_refused(tmp_path: Path) -> None:
    line = json.dumps(asdict(result("a")) | {"schema_version": 99})
    (tmp_path / "part-00000.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match="schema_version is 99"):
        read_parts(tmp_path)
