"""Answers already made, in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from primum.benchmarks.cases import Case
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError
from primum.language.rows import read_rows


class Predictions:
    """Answers already made, found by the case's id or by its exact prompt."""

    IDS = ("case", "id", "case_id", "question_id", "index")
    PROMPTS = ("prompt", "question", "request", "instruction", "input")
    ANSWERS = ("answer", "response", "prediction", "completion", "output", "generation", "text")

    def __init__(self, by_id: Mapping[str, Any], by_prompt: Mapping[str, Any]) -> None:
        self.by_id, self.by_prompt = by_id, by_prompt

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Predictions:
        """Collect the answers of JSONL, JSON, CSV and Parquet files.

        Raises:
            UserError: A file, row or column is missing, or two answers claim one case.
        """
        by_id: dict[str, Any] = {}
        by_prompt: dict[str, Any] = {}
        for path in paths:
            for number, row in read_rows(path, by_key=("id", "answer")):
                answer = next((row[key] for key in cls.ANSWERS if row.get(key) is not None), None)
                identity = next(
                    (str(row[key]) for key in cls.IDS if row.get(key) is not None), None
                )
                prompt = next(
                    (row[key] for key in cls.PROMPTS if isinstance(row.get(key), str)), None
                )
                if answer is None or (identity is None and prompt is None):
                    lacking = "answer" if answer is None else "case id or prompt"
                    columns = cls.ANSWERS if answer is None else cls.IDS + cls.PROMPTS
                    raise UserError(
                        f"This prediction has no {lacking}; its columns are {', '.join(row)}",
                        file=path,
                        row=number,
                        remedy=f"name the column one of {', '.join(columns)}",
                    )
                known, key = (by_id, identity) if identity is not None else (by_prompt, prompt)
                key = str(key)
                if key in known:
                    raise UserError(
                        f"There are two answers for {key[:60]!r}",
                        file=path,
                        row=number,
                        remedy="keep one",
                    )
                known[key] = answer
                if identity is not None and prompt is not None:
                    by_prompt.setdefault(prompt, answer)
        return cls(by_id, by_prompt)

    def check(self, cases: Sequence[Case]) -> None:
        """Refuse a set of answers that leaves cases out.

        Raises:
            UserError: It lists them.
        """
        missing = [case.id for case in cases if self.find(case) is None]
        if missing:
            shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            raise UserError(
                f"The predictions have no answer for {len(missing)} of {len(cases)} cases: {shown}",
                remedy="add them, by case id or with the exact prompt",
            )

    def find(self, case: Case) -> Any:
        """The answer to a case, or None."""
        return self.by_id.get(case.id, self.by_prompt.get(case.prompt))

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """Look the answers up."""
        self.check(cases)
        return [Answer(self.find(case), "given") for case in cases]
