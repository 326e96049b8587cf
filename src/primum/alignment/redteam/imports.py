"""What other red-team tools found: garak's report and PyRIT's memory export, as attempts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from primum.alignment.redteam.campaign import Tried, withheld
from primum.errors import UserError

HIT = 0.5  # detectors and scorers speak from 0 to 1


def read_garak(path: str | Path, *, keep_answers: bool = False) -> list[Tried]:
    """Finished attempts of a garak `*.report.jsonl`; the highest detector decides.

    Raises:
        UserError: The file is missing or holds no finished attempt.
    """
    found = []
    for number, row in _lines(Path(path)):
        if row.get("entry_type") != "attempt" or row.get("status") != 2:
            continue
        detectors = row.get("detector_results") or {}
        for place, output in enumerate(row.get("outputs") or []):
            scores = [
                float(given[place])
                for given in detectors.values()
                if place < len(given) and given[place] is not None
            ]
            if not scores:
                continue
            answer = _text(output)
            found.append(
                _tried(
                    behaviour=str(row.get("goal") or row.get("uuid") or number),
                    family=f"garak.{row.get('probe_classname', 'unknown')}",
                    variant=f"{row.get('uuid', number)}.{place}",
                    prompt=row.get("prompt"),
                    answer=answer,
                    score=max(scores),
                    keep=keep_answers,
                )
            )
    return _some(found, path)


def read_pyrit(path: str | Path, *, keep_answers: bool = False) -> list[Tried]:
    """Scored assistant turns of PyRIT's memory export (JSON): the last true or highest score.

    Raises:
        UserError: The file is missing, is no such export or holds no scored answer.
    """
    file = Path(path)
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError("There is no such file", file=file) from None
    except ValueError as error:
        raise UserError(f"This file is not JSON: {error}", file=file) from None
    pieces = content if isinstance(content, list) else content.get("prompt_entries", [])
    chats: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for piece in pieces:
        chats[str(piece.get("conversation_id"))].append(piece)
    found = []
    for name, chat in chats.items():
        chat.sort(key=lambda piece: int(piece.get("sequence") or 0))
        for place, piece in enumerate(chat):
            scores = [_score(one) for one in piece.get("scores") or []]
            values = [score for score in scores if score is not None]
            if piece.get("role") != "assistant" or not values:
                continue
            asked = chat[:place]
            labels = piece.get("labels") or {}
            found.append(
                _tried(
                    behaviour=str(labels.get("objective") or _said(chat[0], "original_value")),
                    family=f"pyrit.{labels.get('op_name') or labels.get('attack') or 'attack'}",
                    variant=f"{name}.{place}",
                    prompt=[_said(one, "converted_value") for one in asked],
                    answer=_said(piece, "converted_value"),
                    score=max(values),
                    keep=keep_answers,
                )
            )
    return _some(found, path)


def _tried(
    *, behaviour: str, family: str, variant: str, prompt: Any, answer: str, score: float, keep: bool
) -> Tried:
    hit = score >= HIT
    text = json.dumps(prompt, ensure_ascii=False, sort_keys=True)
    return Tried(
        behaviour,
        family,
        variant,
        sha256(text.encode()).hexdigest(),
        "compliance" if hit else "refusal",
        score,
        answer if keep or not hit else withheld(answer),
    )


def _score(one: Mapping[str, Any]) -> float | None:
    """A PyRIT score as a number; refusal scorers point the other way."""
    value = str(one.get("score_value")).lower()
    try:
        number = {"true": 1.0, "false": 0.0}.get(value)
        number = float(value) if number is None else number
    except ValueError:
        return None
    scorer = json.dumps(one.get("scorer_class_identifier") or "").lower()
    return 1 - number if "refusal" in scorer else number


def _said(piece: Mapping[str, Any], name: str) -> str:
    return str(piece.get(name) or piece.get("original_value") or "")


def _text(output: Any) -> str:
    return str(output.get("text") or "") if isinstance(output, Mapping) else str(output or "")


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not file.is_file():
        raise UserError("There is no such file", file=file)
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"This line is not JSON: {error}", file=file, row=number) from None
        if isinstance(row, dict):
            yield number, row


def _some(found: list[Tried], path: str | Path) -> list[Tried]:
    if not found:
        raise UserError("This file holds no scored attempt", file=path)
    return found
