"""Every format people have is read to the same conversation, and a bad row is named."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from primum.errors import UserError
from primum.language.formats import FORMATS, detect_format, read_conversations

ASKED = ({"role": "user", "content": "May I?"}, {"role": "assistant", "content": "No, because."})
HARM = "harmful_medical_request"


def write(folder: Path, rows: list, name: str = "data.jsonl") -> Path:
    file = folder / name
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("messages", {"messages": list(ASKED)}),
        ("messages", {"messages": json.dumps(ASKED)}),
        ("messages", {"messages": [{**ASKED[0], "content": [{"type": "text", "text": "May I?"}]},
                                   ASKED[1]]}),
        ("completion", {"prompt": "May I?", "completion": "No, because."}),
        ("completion", {"prompt": [ASKED[0]], "completion": [ASKED[1]]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "May I?"},
                                        {"from": "gpt", "value": "No, because."}]}),
        ("alpaca", {"instruction": "May I?", "input": "", "output": "No, because."}),
        ("alpaca", {"instruction": "May I?", "output": "No, because."}),
        ("question_response", {"question": "May I?", "response": "No, because."}),
        ("medsafetybench", {"": 0, HARM: "May I?", "safe_response": "No, because."}),
    ],
)  # fmt: skip
def test_each_format_gives_the_same_conversation(tmp_path, name, row):
    file = write(tmp_path, [{**row, "topic": "dose"}])
    assert detect_format(list(row)) == name
    (found,) = read_conversations(file)
    assert found.messages == ASKED and found.rejected is None
    assert (found.id, found.file, found.row) == ("data.jsonl:1", str(file), 1)
    assert found.extra == {"topic": "dose"}
    assert read_conversations(file, format=name) == [found]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "May I?", "chosen": "No, because.", "rejected": "Sure."},
        {"prompt": [ASKED[0]], "chosen": [ASKED[1]],
         "rejected": [{"role": "assistant", "content": "Sure."}]},
        {"prompt": "May I?", "chosen": list(ASKED),
         "rejected": [ASKED[0], {"role": "assistant", "content": "Sure."}]},
        {"chosen": list(ASKED),
         "rejected": [ASKED[0], {"role": "assistant", "content": "Sure."}]},
    ],
)  # fmt: skip
def test_a_preference_has_both_answers_to_one_prompt(tmp_path, row):
    (found,) = read_conversations(write(tmp_path, [row]))
    assert found.messages == ASKED
    assert found.rejected == ({"role": "assistant", "content": "Sure."},)


def test_thinking_and_system_turns_are_kept(tmp_path):
    rows = [
        {"id": "a7", "messages": [*ASKED[:1], {**ASKED[1], "reasoning_content": "It harms."}]},
        {"id": "a8", "messages": [{"role": "system", "content": "Be kind."}, *ASKED]},
    ]
    first, second = read_conversations(write(tmp_path, rows))
    assert first.messages[-1]["reasoning_content"] == "It harms." and first.id == "a7"
    assert second.messages == ({"role": "system", "content": "Be kind."}, *ASKED)
    alpaca = {"system": "Be kind.", "instruction": "Sum up.", "input": "Text", "output": "Short."}
    (third,) = read_conversations(write(tmp_path, [alpaca], "alpaca.jsonl"))
    assert [turn["role"] for turn in third.messages] == ["system", "user", "assistant"]
    assert third.messages[1]["content"] == "Sum up.\n\nText"


def test_all_file_types_hold_the_same_rows(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    rows = [{"prompt": f"Q{i}, é\n?", "completion": f'A "{i}"'} for i in range(3)]
    write(tmp_path, rows)
    (tmp_path / "data.json").write_text(json.dumps(rows))
    quoted = [
        [f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row.values()] for row in rows
    ]
    lines = ["prompt,completion", *(",".join(row) for row in quoted)]
    (tmp_path / "data.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data.parquet")
    read = {
        ending: [one.messages for one in read_conversations(tmp_path / f"data.{ending}")]
        for ending in ("jsonl", "json", "csv", "parquet")
    }
    assert read["jsonl"][2][1]["content"] == 'A "2"'
    assert read["jsonl"] == read["json"] == read["csv"] == read["parquet"]
    assert len(read_conversations(tmp_path)) == 12
    assert read_conversations(tmp_path / "data.csv")[0].row == 2  # the header is row 1


@pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed")
def test_a_saved_hugging_face_data_set_is_read(tmp_path):
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list([{"messages": list(ASKED)}] * 2)
    saved.save_to_disk(str(tmp_path / "one"))
    assert [one.messages for one in read_conversations(tmp_path / "one")] == [ASKED, ASKED]
    DatasetDict({"train": saved, "test": saved}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(UserError, match="several splits") as error:
        read_conversations(tmp_path / "splits")
    assert str(tmp_path / "splits" / "train") in error.value.remedy


GOOD = {"prompt": "May I?", "completion": "No, because."}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "May I?"}, "no `completion`"),
        ({"prompt": "May I?", "completion": None}, "no `completion`"),
        ({"prompt": "", "completion": "No."}, "prompt is empty"),
        ({"prompt": "May I?", "completion": 7}, "a number"),
        ({"prompt": "May I?", "completion": [ASKED[0]]}, "does not end with an assistant turn"),
        ({"prompt": [{"role": "wizard", "content": "x"}], "completion": "y"}, "role 'wizard'"),
        ({"prompt": [{"role": "user"}], "completion": "y"}, "turn 1 of `prompt` is empty"),
        ({"prompt": ["May I?"], "completion": "y"}, "turn 1 of `prompt` is text"),
        ([1, 2], "a list"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, problem):
    file = write(tmp_path, [GOOD, GOOD, row])
    with pytest.raises(UserError, match=problem) as error:
        read_conversations(file)
    assert (error.value.file, error.value.row) == (file, 3) and error.value.remedy


def test_bad_turns_are_named(tmp_path):
    for turns, problem in (
        ([ASKED[0]], "no assistant turn"),
        ([], "no list|not a list"),
        ("not json", "text, not a list"),
        ([ASKED[0], {"role": "assistant", "content": "x", "tool_calls": [1]}], "calls tools"),
        ([{"role": "user", "content": [{"type": "image"}]}, ASKED[1]], "more than text"),
    ):
        with pytest.raises(UserError, match=problem):
            read_conversations(write(tmp_path, [{"messages": turns}]))


def test_unknown_columns_list_what_was_found_and_what_is_understood(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text(",text,label\n0,hello,1\n")
    with pytest.raises(UserError, match=r"\(no name\), text, label") as error:
        read_conversations(file)
    assert all(name in error.value.remedy for name in FORMATS)
    with pytest.raises(UserError, match="no data format `chatml`"):
        read_conversations(file, format="chatml")


def test_a_named_format_asks_for_its_columns(tmp_path):
    with pytest.raises(UserError, match="no `messages`") as error:
        read_conversations(write(tmp_path, [GOOD]), format="messages")
    assert error.value.row == 1 and "prompt, completion" in error.value.problem


def test_broken_files_are_named(tmp_path):
    cases = {
        "empty.jsonl": (b"\n\n", "no rows", None),
        "empty.csv": (b"prompt,completion\n", "no rows", None),
        "empty.json": (b"[]", "no rows", None),
        "latin.jsonl": (b'{"a": 1}\n{"prompt": "caf\xe9"}', "not UTF-8", 2),
        "broken.jsonl": (b'{"prompt": "a", "completion": "b"}\n{"prompt": ', "not JSON", 2),
        "object.json": (b'{"prompt": "a"}', "one list of rows, not an object", None),
        "broken.json": (b'[{"a": 1},\n{"b": }]', "not JSON", 2),
        "short.csv": (b"prompt,completion\na,b\nc\n", "2 columns", 3),
        "long.csv": (b"prompt,completion\na,b,c\n", "2 columns", 2),
        "quote.csv": (b'prompt,completion\na,"b\n', "not CSV", 2),
        "notes.txt": (b"hello", "end in", None),
        "numbers.jsonl": (b"1\n2\n", "named columns, not a number", 1),
    }
    for name, (content, problem, row) in cases.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(UserError, match=problem) as error:
            read_conversations(file)
        assert (error.value.file, error.value.row) == (file, row), name
    with pytest.raises(UserError, match="no such data file"):
        read_conversations(tmp_path / "absent.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="holds no data file"):
        read_conversations(tmp_path / "folder")


def test_a_truncated_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "data.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_conversations(tmp_path / "data.parquet")


def test_line_separators_inside_a_row_do_not_split_it(tmp_path):
    """U+2028 is a line break to `str.splitlines`, but not to JSON Lines."""
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "a\u2028b", "completion": "c"}\r\n', encoding="utf-8")
    assert read_conversations(file)[0].messages[0]["content"] == "a\u2028b"


def test_the_real_medsafetybench_is_read(shared_data):
    folder = shared_data / "medsafetybench"
    if not folder.is_dir():
        pytest.skip("MedSafetyBench is not beside the checkout")
    tests = read_conversations(folder / "test")
    assert len(tests) == 900 and len({one.file for one in tests}) == 18
    assert all([turn["role"] for turn in one.messages] == ["user", "assistant"] for one in tests)
    assert tests[0].row == 2 and tests[0].extra == {}
    assert len(read_conversations(folder / "train" / "ft_safety_med_n900.json")) == 900
