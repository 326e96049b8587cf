"""OmniDocBench: the published scores on its demo pages, and the steps that lead there."""

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.omnidocbench.annotations import blocks_of, page_size, read_pages
from primum.benchmarks.omnidocbench.benchmark import OmniDocBench
from primum.benchmarks.omnidocbench.extraction import elements_of
from primum.benchmarks.omnidocbench.lines import Rules, best_inside
from primum.benchmarks.omnidocbench.page import match_page
from primum.benchmarks.omnidocbench.runs import compatible_runs
from primum.benchmarks.run import Evaluation, run_benchmark
from primum.errors import UserError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("PRIMUM_DATA", ROOT.parent / "shared" / "data")) / "omnidocbench_demo"
WITH_DATA = pytest.mark.skipif(not DATA.is_dir(), reason="OmniDocBench's demo pages are not here")


def page(*blocks: dict[str, Any], **info: Any) -> dict[str, Any]:
    """A page of blocks, numbered and ordered as given unless they say otherwise."""
    numbered = [
        {"anno_id": number, "order": number, "category_type": "text_block"} | block
        for number, block in enumerate(blocks, 1)
    ]
    about = {"image_path": "one.jpg", "width": 100, "height": 200, "page_attribute": {}} | info
    return {"layout_dets": numbered, "extra": {"relation": []}, "page_info": about}


def sit(
    tmp_path: Path, pages: list[dict[str, Any]], answers: dict[str, str], **options: Any
) -> Evaluation:
    data, folder = tmp_path / "pages.json", tmp_path / "answers"
    data.write_text(json.dumps(pages))
    folder.mkdir(exist_ok=True)
    for name, text in answers.items():
        (folder / name).write_text(text)
    benchmark = OmniDocBench(str(data), **options)
    candidate = resolve_candidate(predictions=str(folder), read=benchmark.read_predictions)
    return run_benchmark(benchmark, candidate, output=tmp_path / "out", quiet=True)


@WITH_DATA
@pytest.mark.seconds
def test_scores_equal_the_published_ones(tmp_path: Path) -> None:
    expected = json.loads((DATA / "reference_scores_first9.json").read_text())["metrics"]
    benchmark = OmniDocBench(str(DATA / "OmniDocBench_demo.json"))
    folder = str(DATA / "predictions")
    candidate = resolve_candidate(predictions=folder, read=benchmark.read_predictions)
    start = time.perf_counter()
    run_benchmark(benchmark, candidate, output=tmp_path, quiet=True)
    assert time.perf_counter() - start < 20
    rows = [
        json.loads(line)
        for file in tmp_path.rglob("part-*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert len(rows) == 18
    found: dict[str, dict[str, Any]] = {name: {} for name in expected}
    names = {
        "text": "text_block_edit", "formula": "display_formula_edit", "table": "table_edit",
        "order": "reading_order_edit",
    }  # fmt: skip
    for row in rows:
        for name, published in names.items():
            if name in row["scores"]:
                found[published][row["case"]] = row["scores"][name]
        for number, table in enumerate(row["record"]["tables"]):
            found["table_teds"][f"{row['case']}_[{number}]"] = {
                "TEDS": table["teds"], "TEDS_structure_only": table["structure"],
            }  # fmt: skip
    for metric, values in expected.items():
        for key, value in values.items():
            assert found[metric][key] == pytest.approx(value, abs=1e-6), (metric, key)


@WITH_DATA
def test_ground_truth_scores_nearly_perfect_without_the_published_mistakes() -> None:
    """Only what annotators wrote twice (captions among the text) can still be missed."""
    lost = total = 0
    for one in read_pages(DATA / "OmniDocBench_demo.json")[:6]:
        blocks = sorted(one["layout_dets"], key=lambda block: block.get("order") or 0)
        told = [block.get("html") or block.get("latex") or block.get("text") for block in blocks]
        found = match_page(one, "\n\n".join(filter(None, told)), Rules(compat=False))
        lost += sum(not pair.guess for pair in found.text)
        total += len(found.text)
        assert all(pair.guess == pair.truth for pair in found.tables)
    assert lost / total < 0.05


@WITH_DATA
def test_true_page_sizes_are_those_of_the_pictures() -> None:
    from PIL import Image

    for one in read_pages(DATA / "OmniDocBench_demo.json"):
        with Image.open(DATA / "images" / one["page_info"]["image_path"]) as picture:
            assert page_size(one) == picture.size


def test_a_perfect_page_in_both_protocols(tmp_path: Path) -> None:
    blocks = (
        {"category_type": "title", "text": "Dosing"},
        {"text": "Give 5 mg a day for $x^2$ days."},
        {"category_type": "equation_isolated", "latex": r"\[ a = b \]"},
        {"category_type": "table", "html": "<table><tr><td>a</td><td>b</td></tr></table>"},
        {"category_type": "header", "text": "Journal of Doses"},
    )
    one = page(*blocks, page_attribute={"language": "english", "special_issue": ["None"]})
    told = (
        "# Dosing\n\nGive 5 mg a day for $x^2$ days.\n\n$$a = b$$\n\n"
        "<table><tr><th>a</th><th>b</th></tr></table>"
    )
    for protocol in ("1.0", "1.5"):
        done = sit(tmp_path, [one], {"one.md": told}, protocol=protocol)
        values = {name: score.value for name, score in done.scores.items()}
        assert values["text_edit"] == values["formula_edit"] == values["order_edit"] == 0
        assert values["table_teds"] == values["table_teds_structure"] == 1
        if protocol == "1.0":
            assert values["overall_english"] == 0
            assert values["overall_chinese"] is None
        else:
            assert values["overall"] is None and "TeX" in done.scores["overall"].protocol
            assert values["overall_formula_edit"] == 100
        titles = {section["title"] for section in done.report["sections"]}
        assert {"By page attribute", "Tables by attribute"} <= titles


def test_cdm_comes_from_its_own_program_alone(tmp_path: Path) -> None:
    formula = {"category_type": "equation_isolated", "latex": "$$x+y$$"}
    table = {"category_type": "table", "html": "<table><tr><td>a</td></tr></table>"}
    one = page({"text": "Words."}, formula, table)
    told = "Words.\n\n$$x+z$$\n\n<table><tr><td>a</td></tr></table>"
    first = sit(tmp_path, [one], {"one.md": told})
    assert first.scores["formula_cdm"].value is None
    (pairs,) = json.loads((first.folder / "formula_pairs.json").read_text())
    assert pairs["gt"] == "x+y" and "x+z" in pairs["pred"]
    results = tmp_path / "metrics_res.json"
    results.write_text(json.dumps({"details": {"0": {"F1_score": 0.5}}}))
    second: Evaluation = sit(tmp_path, [one], {"one.md": told}, cdm=str(results))
    assert second.report["timing"]["cases_kept"] == 1  # nothing is answered again
    assert second.scores["formula_cdm"].value == 0.5
    assert second.scores["overall"].value == pytest.approx((100 + 100 + 50) / 3)
    results.write_text(json.dumps({"details": {}}))
    with pytest.raises(UserError, match="0 pairs"):
        sit(tmp_path, [one], {"one.md": told}, cdm=str(results))


def test_pieces_of_a_block_and_blocks_of_a_piece_find_each_other() -> None:
    whole = "The first sentence is about doses. The second one is about time, and rather long."
    broken = match_page(
        page({"text": whole}, {"text": "Other."}), whole.replace(". T", ".\n\nT"), Rules()
    )
    assert broken.text[0].guess == broken.text[0].truth
    parts = [{"text": "Doses are small today."}, {"text": "Times are long here."}, {"text": "No."}]
    joined = match_page(
        page(*parts, {"text": "Something else altogether"}),
        "Doses are small today. Times are long here.\n\nSomething else altogether",
        Rules(),
    )
    assert joined.text[0].truth == "DosesaresmalltodayTimesarelonghere"
    assert [pair.guess for pair in joined.text if pair.truth == "No"] == [""]


def test_reading_order_counts_swapped_blocks() -> None:
    words = ["alpha beta gamma", "delta epsilon zeta", "eta theta iota kappa"]
    one = page(*({"text": text} for text in words))
    found = match_page(one, "\n\n".join([words[1], words[0], words[2]]), Rules())
    assert found.orders == [1, 2, 3] and found.read == [2, 1, 3]


def test_headers_take_their_text_out_of_the_way() -> None:
    one = page({"text": "The body."}, {"category_type": "header", "text": "Running title here"})
    found = match_page(one, "Running title here\n\nThe body.", Rules())
    assert [(pair.truth, pair.guess) for pair in found.text] == [("Thebody", "Thebody")]


def test_broken_paragraphs_are_joined() -> None:
    one = page({"text": "one "}, {"text": "two "}, {"text": "three"})
    one["extra"]["relation"] = [
        {"relation_type": "truncated", "source_anno_id": a, "target_anno_id": b}
        for a, b in ((1, 2), (2, 3))
    ]
    (fixed,) = blocks_of(one, compat=False)["text_block"]
    assert fixed.content == "one two three"
    (published,) = blocks_of(one)["text_block"]
    assert published.content == "one two two three"


@pytest.mark.parametrize(
    ("markdown", "kinds"),
    [
        ("a\n\nb", ["text", "text"]),
        ("a\nb", ["text", "text"]),
        ("# t\n\n$$x$$\n\ny $z$ w", ["text", "formula", "text", "formula"]),
        ("<table><tr><td><table></table></td></tr></table>", ["table"]),
        (r"\begin{tabular}{l} a \end{tabular}", ["latex_table"]),
        ("```python\nx = 1\n```\n\nwords", ["text", "text"]),
        ("![figure](a.png)", []),
        ("", []),
        ("<table> never closed", ["text"]),
    ],
)
def test_what_a_prediction_is_taken_apart_into(markdown: str, kinds: list[str]) -> None:
    assert sorted(one.kind for one in elements_of(markdown)) == sorted(kinds)


def test_pipe_tables_as_meant_and_as_published() -> None:
    markdown = "Above\n| a | b |\n|---|---|\n| 1: x | 2 |\n| 3 | 4 |\n"
    (meant,) = [one for one in elements_of(markdown, compat=False) if one.kind == "table"]
    assert "<td>1: x</td>" in meant.content
    published = elements_of(markdown)
    (table,) = [one for one in published if one.kind == "table"]
    assert "1: x" not in table.content
    assert not any("Above" in one.content for one in published)


def test_latex_tables_count_only_without_the_published_mistakes() -> None:
    one = page({"category_type": "table", "html": "<table><tr><td>a</td><td>b</td></tr></table>"})
    told = r"\begin{tabular}{ll} a & b \\ \end{tabular}"
    assert match_page(one, told, Rules()).tables[0].guess == ""
    (fixed,) = match_page(one, told, Rules(compat=False)).tables
    assert fixed.guess == fixed.truth


def test_of_overlapping_runs_the_cheaper_set_wins() -> None:
    runs = [((0, 1), 0.4), ((1, 2), 0.1), ((2, 3), 0.2), ((5,), 0.9)]
    assert compatible_runs(runs) == [(1, 2), (5,)]
    assert best_inside("abcdef", "xyz", 0.4) == pytest.approx(2 / 3, abs=0.34)


def test_missing_pages_are_named_or_scored_as_empty(tmp_path: Path) -> None:
    pages = [page({"text": "a b c"}), page({"text": "d"}, image_path="two.jpg")]
    with pytest.raises(UserError, match=r"two\.jpg"):
        sit(tmp_path, pages, {"one.md": "a b c"})
    done = sit(tmp_path, pages, {"one.md": "a b c"}, missing="empty")
    assert done.scores["text_edit"].value == 0.5


def test_a_document_model_sits_it_with_and_without_drafts(tmp_path: Path) -> None:
    import torch
    from tests.parsing.parity import TINY, WORD

    from primum.parsing.decoding.decoder import Decoder
    from primum.parsing.reader import PageReader
    from primum.parsing.speculation.own_output import OwnOutput
    from primum.parsing.synthesis.page import make_page

    model = tmp_path / "model"
    network = TINY.model()
    with torch.no_grad():
        network.get_input_embeddings().weight[:5] = 0  # untrained, it would repeat <start>
    network.save_pretrained(model)
    TINY.processor().save_pretrained(model)
    (tmp_path / "images").mkdir()
    made = [make_page(seed, WORD) for seed in range(2)]
    for number, one in enumerate(made):
        one.image.save(tmp_path / "images" / f"{number}.png")
    data = tmp_path / "pages.json"
    data.write_text(json.dumps([one.annotation(f"{n}.png") for n, one in enumerate(made)]))
    answers = []
    for decoder in (None, Decoder("page", [OwnOutput], max_new_tokens=24, batch=1)):
        reader = partial(PageReader.of, decoder=decoder)
        benchmark = OmniDocBench(str(data), reader=reader, max_new_tokens=24)
        candidate = resolve_candidate(checkpoint=str(model), dtype="float32")
        done = run_benchmark(benchmark, candidate, output=tmp_path / "out", quiet=True)
        answers.append([row["answer"] for row in done.report["cases"]])
        assert done.report["benchmark"]["facts"]["decoding"].startswith(
            "page" if decoder else "generate"
        )
    assert answers[0] == answers[1] and all(answers[0])


@pytest.mark.parametrize("content", ["{", "[]", '[{"page_info": {}}]'])
def test_a_broken_annotation_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"broken\.json"):
        read_pages(file)
