"""Exam files as published, choices read from text, and both kinds of candidate."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from primum.benchmarks.candidates import Candidate
from primum.benchmarks.clinical_qa import ByLikelihood, ClinicalQA
from primum.benchmarks.exam_items import read_exam
from primum.benchmarks.extraction import extract_choice
from primum.benchmarks.predictions import Predictions
from primum.benchmarks.run import run_benchmark
from primum.errors import UserError

ROWS = {
    "medxpertqa": {
        "id": "Text-1",
        "question": "Which one?\nAnswer Choices: (A) rest (B) vitamin (A) tablets (C) none",
        "label": ["B"],
        "body_system": "Skin",
    },
    "medqa": {
        "question": "Which one?",
        "options": {"A": "rest", "B": "tablets"},
        "answer": "tablets",
        "answer_idx": "B",
    },
    "mmlu": {"question": "Which one?", "choices": ["rest", "tablets"], "answer": 1},
    "cmexam": {"Question": "哪一个?", "Options": "A 休息\nB 药片\nC 水", "Answer": "BC"},
    "cmb": {"question": "哪一个?", "option": {"A": "休息", "B": "药片", "C": ""}, "answer": "B"},
    "pubmedqa": {
        "pubid": 7, "question": "Does it?", "context": {"contexts": ["It may."]},
        "final_decision": "maybe",
    },
}  # fmt: skip


def write(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("kind", ROWS)
def test_exams_are_read_as_published(tmp_path: Path, kind: str) -> None:
    (item,) = read_exam(write(tmp_path / "exam.jsonl", ROWS[kind]))
    assert item.answer == {"cmexam": ("B", "C"), "pubmedqa": ("maybe",)}.get(kind, ("B",))
    assert item.options["B" if kind != "pubmedqa" else "maybe"]
    if kind == "medxpertqa":
        assert item.options == {"A": "rest", "B": "vitamin (A) tablets", "C": "none"}
        assert item.stem == "Which one?" and item.tags == {"body_system": "Skin"}
    if kind == "pubmedqa":
        assert item.passage == "It may." and not item.lettered


def test_medmcqa_counts_from_one_in_its_files_and_from_zero_on_the_hub(tmp_path: Path) -> None:
    options = {"opa": "w", "opb": "x", "opc": "y", "opd": "z"}
    for first in (0, 1):
        rows = [{"id": str(n), "question": "Which?", "cop": n + first, **options} for n in range(4)]
        items = read_exam(write(tmp_path / f"{first}.jsonl", *rows))
        assert [item.answer for item in items] == [("A",), ("B",), ("C",), ("D",)]
    with pytest.raises(UserError, match="cannot be told"):
        read_exam(write(tmp_path / "some.jsonl", *rows[1:3]))


def test_a_row_that_is_no_question_is_named(tmp_path: Path) -> None:
    bad = {"question": "Which?", "options": ["one", "two"], "answer": "E"}
    with pytest.raises(UserError, match="row 2") as raised:
        read_exam(write(tmp_path / "exam.jsonl", ROWS["mmlu"], bad))
    assert raised.value.row == 2


OPTIONS = {"A": "aspirin", "B": "low-dose aspirin", "C": "ibuprofen", "D": "none of these"}
WORDS = {word: word for word in ("yes", "no", "maybe")}


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ("B", "B"),
        ("(C) ibuprofen", "C"),
        ("**Answer: D**", "D"),
        ("The correct answer is option C.", "C"),
        ("The answer is A. No, wait: the answer is B.", "B"),
        (r"So \boxed{C}", "C"),
        (r"So \boxed{\text{ibuprofen}}", "C"),
        ("<think>surely A</think><answer>D</answer>", "D"),
        ("<think>the answer is A", ""),
        ("答案是:B", "B"),
        ("故选 C。", "C"),
        ("I would give low-dose aspirin first.", "B"),
        ("Either aspirin or ibuprofen would do.", ""),
        ("A patient in this state needs care.", ""),
        ("The answer: A patient like this needs care.", ""),
        ("I can't answer that.", ""),
        ("", ""),
        ("E", ""),
    ],
)
def test_choices_are_read_from_text(said: str, chosen: str) -> None:
    assert "".join(extract_choice(said, OPTIONS)) == chosen


@pytest.mark.parametrize(
    ("said", "chosen"),
    [("Yes.", "yes"), ("Answer: maybe", "maybe"), ("It is unclear: maybe.", "maybe"),
     ("Answer: no, although yes was likely", "no"), ("yes or no", "yes"), ("It depends", "")],
)  # fmt: skip
def test_words_are_read_from_text(said: str, chosen: str) -> None:
    assert "".join(extract_choice(said, WORDS)) == chosen


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, str]:
    lettered = [
        {"id": f"m{n}", "question": f"Which, for case {n}?", "answer": "AB"[n % 2],
         "options": {"A": "rest", "B": "drink enough water", "C": "the doctor"}}
        for n in range(6)
    ]  # fmt: skip
    worded = [
        {"pubid": n, "question": f"Does {n}?", "context": "It may.", "final_decision": "yes"}
        for n in range(4)
    ]
    return {
        "medqa": write(tmp_path / "medqa.jsonl", *lettered),
        "pubmedqa": write(tmp_path / "pubmedqa.jsonl", *worded),
    }


@pytest.mark.parametrize("mode", ["letter", "option_text", "generation"])
def test_a_checkpoint_sits_every_mode(
    candidate: Candidate, sets: dict[str, str], mode: str, tmp_path: Path
) -> None:
    def sit(batch_size: int) -> list:
        benchmark = ClinicalQA(sets, mode=mode, max_new_tokens=4, batch_size=batch_size)
        found = run_benchmark(benchmark, candidate, output=tmp_path / str(batch_size), quiet=True)
        macro = found.scores["accuracy_macro"]
        parts = [found.scores[f"accuracy_{name}"].value for name in sets]
        assert macro.value == pytest.approx(sum(parts) / 2) and macro.n == 10
        assert "medqa" in macro.protocol and "pubmedqa" in macro.protocol
        assert ("extraction_failures" in found.scores) == (mode == "generation")
        assert ("accuracy_per_character_macro" in found.scores) == (mode == "option_text")
        return [row["verdicts"] for row in found.report["cases"]]

    assert [next(iter(row.values()))["label"] for row in sit(3)] == [
        next(iter(row.values()))["label"] for row in sit(16)
    ]


def test_likelihoods_are_batched_by_tokens(candidate: Candidate, tmp_path: Path) -> None:
    digits, words = "3141592653589793", "a question about the answer "
    rows = [
        {"id": name, "question": text, "answer": "A", "options": {"A": "yes", "B": "no"}}
        for name, text in (("words", words), ("digits", digits))
    ]
    benchmark = ClinicalQA({"set": write(tmp_path / "set.jsonl", *rows)}, batch_size=1)
    benchmark.candidate = replace(candidate, subject=ByLikelihood(candidate.subject, chat=False))
    assert [case.id for (case,) in benchmark.batches()] == ["set:digits", "set:words"]
    assert len(digits) < len(words)


def test_predictions_are_read_and_failures_reported(sets: dict[str, str], tmp_path: Path) -> None:
    answers = {f"medqa:m{n}": "The answer is A." for n in range(5)} | {"medqa:m5": "Who knows?"}
    answers |= {f"pubmedqa:{n}": "yes" for n in range(4)}
    candidate = Candidate("given", "predictions", "0" * 64, Predictions(answers, {}))
    scores = run_benchmark(ClinicalQA(sets), candidate, output=tmp_path, quiet=True).scores
    assert scores["accuracy_medqa"].value == 0.5
    assert scores["accuracy_macro"].value == 0.75
    assert scores["extraction_failures"].value == pytest.approx(0.1)
    assert scores["macro_f1_pubmedqa"].value == 1


def test_a_limit_takes_so_many_of_each_set(sets: dict[str, str]) -> None:
    few, more = (ClinicalQA(sets, limit=limit).cases for limit in (2, 3))
    assert len(few) == 4 and {case.id for case in few} < {case.id for case in more}


def test_several_right_answers_need_generation(tmp_path: Path) -> None:
    sets = {"cmexam": write(tmp_path / "exam.jsonl", ROWS["cmexam"])}
    with pytest.raises(UserError, match="several right answers"):
        _ = ClinicalQA(sets).cases
    (case,) = ClinicalQA(sets, mode="generation", several=True).cases
    assert case.reference["answer"] == ["B", "C"]
