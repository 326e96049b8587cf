"""Conversations from the file formats people have, told apart by their columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.language.rows import FILES, Row, is_saved_dataset, kind_of, read_rows

ROLES = {
    "system": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "developer": "developer", "human": "user", "gpt": "assistant", "bot": "assistant",
    "chatgpt": "assistant", "model": "assistant",
}  # fmt: skip


@dataclass(frozen=True)
class Conversation:
    """One conversation of a data set.

    Args:
        id: The row's `id` if it has one, else `<file name>:<row>`.
        messages: Mappings with `role`, `content` and sometimes `reasoning_content`, in order.
        rejected: The answer turns of a preference pair that were not preferred; those that were
            are at the end of `messages`.
        file: Where it was read.
        row: Its row there, counted from 1 (of a CSV file, the header is row 1).
        extra: The row's other columns.
    """

    id: str
    messages: tuple[dict[str, str], ...]
    rejected: tuple[dict[str, str], ...] | None
    file: str
    row: int
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A row layout: the columns that give it away and how its turns are read."""

    columns: tuple[str, ...]
    read: Callable[[Row], tuple[list[dict[str, str]], list[dict[str, str]] | None]]
    also: tuple[str, ...] = ()  # columns it uses when they are there


class BadRow(Exception):
    """What is wrong with a row; the caller knows its number."""


def read_conversations(path: str | Path, format: str = "auto") -> list[Conversation]:
    """Read every conversation of a file or folder.

    Args:
        path: A .jsonl, .json (a list), .csv or .parquet file; a folder of such files, read in the
            order of their names; or a Hugging Face `save_to_disk` directory.
        format: One of `FORMATS`, or `auto` to tell by each file's columns.

    Raises:
        UserError: A file is missing, empty, not UTF-8 or of unknown columns, or a row is not what
            its format promises; the message names file, row and remedy.
    """
    path = Path(path).expanduser()
    if format != "auto" and format not in FORMATS:
        raise UserError(
            f"There is no data format `{format}`",
            remedy=f"choose one of auto, {', '.join(FORMATS)}",
        )
    if not path.exists():
        raise UserError("There is no such data file or folder", file=path)
    files = [path]
    if path.is_dir() and not is_saved_dataset(path):
        files = sorted(file for file in path.rglob("*") if file.suffix in FILES and file.is_file())
        if not files:
            raise UserError(
                "This folder holds no data file",
                file=path,
                remedy=f"it should hold {', '.join(FILES)} files, or be a save_to_disk directory",
            )
    return [conversation for file in files for conversation in _read_file(file, format)]


def _read_file(file: Path, format: str) -> list[Conversation]:
    rows = read_rows(file)
    if format == "auto":
        format = detect_format(list(rows[0][1]), file)
    layout = FORMATS[format]
    conversations = []
    for number, row in rows:
        try:
            conversations.append(_read_row(row, layout, file, number))
        except BadRow as error:
            raise UserError(
                f"This row is not in the format `{format}`: {error}",
                file=file,
                row=number,
                remedy="correct or remove the row, or name the right format "
                f"({', '.join(FORMATS)})",
            ) from None
    return conversations


def _read_row(row: Row, layout: Format, file: Path, number: int) -> Conversation:
    missing = [name for name in layout.columns if row.get(name) is None]
    if missing:
        raise BadRow(
            f"it has no {' and no '.join(f'`{name}`' for name in missing)} "
            f"(its columns: {_listed(row)})"
        )
    messages, rejected = layout.read(row)
    for turns in (messages, rejected):
        if turns is not None:
            _check_turns(turns)
    used = {*layout.columns, *layout.also, "id", ""}
    return Conversation(
        id=str(row["id"]) if row.get("id") not in (None, "") else f"{file.name}:{number}",
        messages=tuple(messages),
        rejected=None if rejected is None else tuple(rejected),
        file=str(file),
        row=number,
        extra={name: value for name, value in row.items() if name not in used},
    )


def detect_format(columns: Sequence[str], file: str | Path | None = None) -> str:
    """The format whose columns are all there, the most telling first.

    Raises:
        UserError: There is none; the message lists what was found and what is understood.
    """
    for name, layout in FORMATS.items():
        if set(layout.columns) <= set(columns):
            return name
    understood = "; ".join(f"{name}: {', '.join(one.columns)}" for name, one in FORMATS.items())
    raise UserError(
        f"The columns of this data are not understood: {_listed(columns)}",
        file=file,
        remedy=f"rename them to one of these layouts ({understood})",
    )


# ── Turns of a row ───────────────────────────────────────────────────────────


def _messages(row: Row) -> tuple[list[dict[str, str]], None]:
    return _turns(row["messages"], "messages"), None


def _sharegpt(row: Row) -> tuple[list[dict[str, str]], None]:
    turns = _turns(row["conversations"], "conversations")
    system = row.get("system")
    if isinstance(system, str) and system.strip():
        turns = [{"role": "system", "content": system}, *turns]
    return turns, None


def _completion(row: Row) -> tuple[list[dict[str, str]], None]:
    prompt = _side(row["prompt"], "prompt", "user")
    return prompt + _answer(row, "completion"), None


def _preference(row: Row) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    prompt = _side(row["prompt"], "prompt", "user")
    return prompt + _answer(row, "chosen", prompt), _answer(row, "rejected", prompt)


def _implicit_preference(row: Row) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """TRL's preference rows without a prompt: whole conversations that share their beginning."""
    chosen, rejected = (_side(row[name], name, None) for name in ("chosen", "rejected"))
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if not 0 < shared < min(len(chosen), len(rejected)):
        raise BadRow("`chosen` and `rejected` do not share a beginning and then differ")
    return chosen, rejected[shared:]


def _alpaca(row: Row) -> tuple[list[dict[str, str]], None]:
    question = _string(row["instruction"], "instruction")
    given = row.get("input")
    if isinstance(given, str) and given.strip():
        question = f"{question}\n\n{given}"
    return _asked(row, question, _string(row["output"], "output")), None


def _question_response(row: Row) -> tuple[list[dict[str, str]], None]:
    return _asked(
        row, _string(row["question"], "question"), _string(row["response"], "response")
    ), None


def _medsafetybench(row: Row) -> tuple[list[dict[str, str]], None]:
    request = _string(row["harmful_medical_request"], "harmful_medical_request")
    return _asked(row, request, _string(row["safe_response"], "safe_response")), None


def _asked(row: Row, question: str, answer: str) -> list[dict[str, str]]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    system, thought = row.get("system"), row.get("reasoning_content")
    if isinstance(system, str) and system.strip():
        turns.insert(0, {"role": "system", "content": system})
    if isinstance(thought, str) and thought.strip():
        turns[-1]["reasoning_content"] = thought
    return turns


def _side(value: Any, column: str, role: str | None) -> list[dict[str, str]]:
    if isinstance(value, str) and role is not None:
        return [{"role": role, "content": _string(value, column)}]
    return _turns(value, column)


def _answer(row: Row, column: str, prompt: Sequence[dict[str, str]] = ()) -> list[dict[str, str]]:
    turns = _side(row[column], column, "assistant")
    if prompt and turns[: len(prompt)] == list(prompt) and len(turns) > len(prompt):
        turns = turns[len(prompt) :]  # some data sets repeat the prompt in both answers
    if turns[-1]["role"] != "assistant":
        raise BadRow(f"`{column}` does not end with an assistant turn")
    thought = row.get("reasoning_content")
    if isinstance(row[column], str) and column == "completion" and isinstance(thought, str):
        turns[-1]["reasoning_content"] = thought
    return turns


def _turns(value: Any, column: str) -> list[dict[str, str]]:
    if isinstance(value, str):  # CSV can hold a list of turns only as JSON text
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRow(f"`{column}` is text, not a list of turns") from None
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise BadRow(f"`{column}` is {kind_of(value)}, not a list of turns")
    return [_turn(one, f"turn {number} of `{column}`") for number, one in enumerate(value, 1)]


def _turn(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise BadRow(f"{where} is {kind_of(value)}, not an object with `role` and `content`")
    role = value.get("role", value.get("from"))
    content = value.get("content", value.get("value"))
    if role not in ROLES:
        raise BadRow(f"{where} has the role {role!r}; known are {', '.join(ROLES)}")
    if value.get("tool_calls"):
        raise BadRow(f"{where} calls tools, which is not supported")
    if isinstance(content, Sequence) and not isinstance(content, str):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) != len(content):
            raise BadRow(f"{where} holds more than text")
        content = "".join(texts)
    turn = {"role": ROLES[role], "content": _string(content, where)}
    thought = value.get("reasoning_content") or value.get("thinking")
    if isinstance(thought, str) and thought.strip():
        turn["reasoning_content"] = thought
    return turn


def _check_turns(turns: Sequence[dict[str, str]]) -> None:
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadRow("it has no assistant turn")


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"{where} is {kind_of(value)}" + (", not text" * (not isinstance(value, str))))
    return value


def _listed(columns: Any) -> str:
    return ", ".join(str(name) or "(no name)" for name in columns) or "none"


FORMATS = {  # the most telling first: the first whose columns are all there is taken
    "messages": Format(("messages",), _messages),
    "sharegpt": Format(("conversations",), _sharegpt, also=("system",)),
    "preference": Format(("prompt", "chosen", "rejected"), _preference),
    "implicit_preference": Format(("chosen", "rejected"), _implicit_preference),
    "completion": Format(("prompt", "completion"), _completion, also=("reasoning_content",)),
    "alpaca": Format(
        ("instruction", "output"), _alpaca, also=("input", "system", "reasoning_content")
    ),
    "medsafetybench": Format(("harmful_medical_request", "safe_response"), _medsafetybench),
    "question_response": Format(
        ("question", "response"), _question_response, also=("system", "reasoning_content")
    ),
}
