"""Character error rate on held-out synthetic pages."""

import json
from pathlib import Path

import pytest

from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.synthetic_pages import SyntheticPages
from primum.parsing.data import HELD_OUT, Bundles, Stage
from primum.parsing.synthesis.page import Recipe, make_page

WORD = Recipe(width=(112, 128), characters=(4, 10), paragraph=10, chances={}, margin=4)


def test_errors_are_counted_over_characters(tmp_path: Path) -> None:
    benchmark = SyntheticPages(
        make_page, {"words": {"pages": 4, "recipe": WORD}, "more": {"pages": 1, "recipe": WORD}}
    )
    cases = benchmark.cases
    answers = {case.id: case.reference for case in cases}
    wrong = cases[0]
    answers[wrong.id] = "#" + str(wrong.reference)
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(answers))
    candidate = resolve_candidate(predictions=str(file), read=benchmark.read_predictions)
    done = run_benchmark(benchmark, candidate, output=tmp_path / "out", quiet=True)
    characters = sum(len(case.reference) for case in cases[:4])
    assert done.scores["words_cer"].value == pytest.approx(1 / characters)
    assert done.scores["words_cer"].n == 4 and done.scores["more_cer"].value == 0
    assert done.report["worst"] == [wrong.id]
    assert all(case.files["image"].is_file() for case in cases)
    later = SyntheticPages(make_page, {"words": {"pages": 2, "recipe": WORD, "first": 2}})
    assert [case.reference for case in later.cases] == [case.reference for case in cases[2:4]]
    assert (
        later.facts() != SyntheticPages(make_page, {"words": {"pages": 2, "recipe": WORD}}).facts()
    )


def test_training_never_draws_held_out_seeds() -> None:
    samples = Bundles([Stage(WORD, pages=20)], 5)[3]
    assert all(int(sample.id.split()[-1]) >= HELD_OUT for sample in samples)
