"""Multiple-choice questions of medical exams, from the files that they are published in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from primum.errors import UserError
from primum.language.rows import read_rows

HUB = "hub:"
WORDS = ("yes", "no", "maybe")  # PubMedQA's options, which no letter stands for
TAGS = ("subject", "subject_name", "medical_task", "body_system", "question_type", "exam_type")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ExamItem:
    """One question.

    Attributes:
        id: Unique within its set.
        stem: The question without its options.
        options: What can be chosen, by letter; yes, no and maybe stand for themselves.
        answer: The right letters, one or more.
        passage: A text that the question is about, where there is one.
    """

    id: str
    stem: str
    options: Mapping[str, str]
    answer: tuple[str, ...]
    passage: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def lettered(self) -> bool:
        """Whether letters stand for the options."""
        return tuple(self.options) != WORDS


def read_exam(place: str) -> list[ExamItem]:
    """All questions of a file, a PubMedQA folder or `hub:ID[:CONFIG]:SPLIT`.

    Known are MedQA, MedMCQA, PubMedQA, MMLU, MedXpertQA, CMExam and CMB as published, and any file
    with the columns `question`, `options` (a mapping or a list) and `answer` (letters or an index).

    Raises:
        UserError: The file is not there, or a row is none of these.
    """
    rows: Sequence[tuple[int, Row]]
    if place.startswith(HUB):
        rows, where = list(enumerate(_hub_rows(place), 1)), place
    else:
        path = Path(place).expanduser()
        if path.is_dir():
            path = path / "ori_pqal.json"
        if path.suffix == ".json" and path.name.startswith("ori_pqa"):
            return _pubmedqa_file(path)
        rows, where = read_rows(path), str(path)
    if rows and "cop" in rows[0][1]:
        rows = _with_letters(rows, where)
    items, seen = [], set()
    for number, row in rows:
        try:
            item = _item(row, number)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            said = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"This row is not a question with options: {said}", file=where, row=number,
                remedy="give the columns question, options (letter -> text) and answer (letters)",
            ) from None  # fmt: skip
        if item.id in seen:
            raise UserError(f"The id {item.id!r} comes twice", file=where, row=number)
        seen.add(item.id)
        items.append(item)
    return items


def _item(row: Row, number: int) -> ExamItem:
    stem, options = _options(row)
    if len(options) < 2:
        raise ValueError(f"it has {len(options)} options")
    answer = _letters(row, list(options))
    if not answer or not set(answer) <= set(options):
        raise ValueError(f"its answer {answer} is none of {', '.join(options)}")
    names = ("id", "pubid", "question_id")
    identity = next((row[name] for name in names if row.get(name) is not None), number)
    return ExamItem(
        str(identity),
        stem.strip(),
        options,
        answer,
        _passage(row),
        {key: str(row[key]) for key in TAGS if row.get(key)},
    )


def _options(row: Row) -> tuple[str, dict[str, str]]:
    """The stem, and the options by letter."""
    given = {key.lower(): value for key, value in row.items()}
    stem = str(given["question"])
    if "final_decision" in given:
        return stem, {word: word for word in WORDS}
    if "Answer Choices: " in stem:
        stem, _, listed = stem.rpartition("Answer Choices: ")
        return stem, marked(listed, "({}) ")
    columns = (("opa", "opb", "opc", "opd"), ("ending0", "ending1", "ending2", "ending3"))
    for names in columns:
        if names[0] in given:
            return stem, dict(zip("ABCD", (str(given[name]) for name in names), strict=True))
    for name in ("options", "option", "choices"):
        found = given.get(name)
        if isinstance(found, str) and found.lstrip()[:1] in "[{":
            found = json.loads(found)  # a list or mapping in a CSV cell
        if isinstance(found, str):
            return stem, marked(found, "{} ")
        if isinstance(found, Mapping):
            return stem, {str(key): str(text) for key, text in found.items() if text}
        if isinstance(found, Sequence):
            texts = [one["content"] if isinstance(one, Mapping) else str(one) for one in found]
            return stem, dict(zip(ascii_uppercase, texts, strict=False))
    raise KeyError("options")


def marked(text: str, mark: str) -> dict[str, str]:
    """Options written one after another, each behind its mark, in the order of the alphabet.

    >>> marked("(A) rest (B) vitamin (A) tablets (C) none", "({}) ")
    {'A': 'rest', 'B': 'vitamin (A) tablets', 'C': 'none'}
    """
    places = []
    position = 0
    for letter in ascii_uppercase:
        found = re.compile(rf"(?:^|\s){re.escape(mark.format(letter))}").search(text, position)
        if found is None:
            break
        places.append((letter, found.start(), found.end()))
        position = found.end() - 1
    ends = [start for _, start, _ in places[1:]] + [len(text)]
    return {
        letter: text[begin:end].strip()
        for (letter, _, begin), end in zip(places, ends, strict=True)
    }


def _letters(row: Row, letters: Sequence[str]) -> tuple[str, ...]:
    """The right answers' letters, sorted."""
    given = {key.lower(): value for key, value in row.items()}
    answer = next(
        given[name]
        for name in ("answer_idx", "final_decision", "label", "answer", "target")
        if given.get(name) is not None
    )
    if isinstance(answer, int):
        return (letters[answer],)
    if isinstance(answer, str):
        text = answer.strip()
        if text.isdigit():
            return (letters[int(text)],)
        if text in letters:
            return (text,)
        answer = re.findall(r"[A-Z]", text) if re.fullmatch(r"[A-Z][A-Z,;\s]*", text) else [text]
    return tuple(sorted({str(one) for one in answer}))


def _passage(row: Row) -> str:
    context = row.get("CONTEXTS") or row.get("context")
    if isinstance(context, Mapping):
        context = context.get("contexts")
    if isinstance(context, str):
        return context
    return "\n".join(context) if isinstance(context, Iterable) else ""


def _pubmedqa_file(path: Path) -> list[ExamItem]:
    """PubMedQA's own JSON; only the test questions where their list lies beside it."""
    if not path.is_file():
        raise UserError("There is no such file", file=path)
    try:
        articles = json.loads(path.read_text("utf-8"))
        listed = path.with_name("test_ground_truth.json")
        chosen = json.loads(listed.read_text("utf-8")) if listed.is_file() else articles
        return [
            ExamItem(
                number,
                articles[number]["QUESTION"].strip(),
                {word: word for word in WORDS},
                (articles[number]["final_decision"],),
                "\n".join(articles[number]["CONTEXTS"]),
            )
            for number in chosen
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"This is not PubMedQA's labelled set: {error!r}", file=path) from None


def _with_letters(rows: Sequence[tuple[int, Row]], where: str) -> list[tuple[int, dict[str, Any]]]:
    """MedMCQA counts its answers from 0 on the hub and from 1 in its own files."""
    places = [int(row["cop"]) for _, row in rows]
    if min(places) == 1 and max(places) == 4:
        first = 1
    elif min(places) == 0 and max(places) < 4:
        first = 0
    else:
        raise UserError(
            f"MedMCQA's answers (`cop`) range from {min(places)} to {max(places)}: it cannot be "
            "told whether they count from 0 or from 1, or some are withheld",
            file=where,
            remedy="take the labelled split whole, or write the letters into a column `answer`",
        )
    return [
        (number, dict(row) | {"answer": "ABCD"[place - first]})
        for (number, row), place in zip(rows, places, strict=True)
    ]


def _hub_rows(place: str) -> list[Row]:
    from primum.extras import require

    load: Callable[..., Any] = require("datasets", "alignment").load_dataset
    parts = place.removeprefix(HUB).split(":")
    if len(parts) not in (2, 3):
        raise UserError(f"{place!r} is not hub:ID:SPLIT or hub:ID:CONFIG:SPLIT")
    try:
        return list(load(*parts[:-1], split=parts[-1]))
    except Exception as error:  # whatever the library raises, the user asked for a data set
        raise UserError(
            f"{place} could not be had: {str(error).strip().splitlines()[0]}",
            remedy="check the id and split, connect to the network, or give a file",
        ) from error
