"""dots.ocr's JSON always parses, whatever state it is in."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.parsing.regions import Box, Region
from primum.parsing.targets.dots.output import (
    CATEGORIES,
    Cell,
    CellStream,
    read_cells,
    repaired,
    without_loops,
)
from primum.parsing.targets.dots_ocr import DotsOcr, DotsSurface

edges = st.integers(0, 4000)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ['say "bbox": [1]', '{"bbox": [1, 2, 3, 4]}', "\\alpha \\nu", "a\\", '"', "]}", "\\u00e9 😀"]
)
cell = st.builds(
    lambda a, b, c, d, category, text: Cell(
        (min(a, c), min(b, d), max(a, c), max(b, d)), category, text
    ),
    edges, edges, edges, edges, st.sampled_from(CATEGORIES), st.none() | words,
)  # fmt: skip
cells = st.lists(cell, min_size=1, max_size=4)


SCRAPS = [
    '{"bbox"', ": [1, 2", "]", ", ", '"category"', ": ", '"Text"', '"text"', '"', "\\", "\\u12",
    "}", "{", "[", "1e999", "NaN", "-3", "null", "\ud83d",
]  # fmt: skip


def written(given_cells, ascii_only=False) -> str:
    return json.dumps([one.told() for one in given_cells], ensure_ascii=ascii_only)


@settings(deadline=None, max_examples=40)
@given(cells, st.booleans())
def test_whole_output_is_read_back_and_left_as_it_is(made, ascii_only):
    text = written(made, ascii_only)
    assert read_cells(text) == made
    assert repaired(text) == text


@settings(deadline=None, max_examples=100)
@given(cells, st.booleans(), st.data())
def test_a_truncated_output_keeps_all_that_was_written(made, ascii_only, data):
    text = written(made, ascii_only)
    cut = text[: data.draw(st.integers(0, len(text)))]
    found = read_cells(cut)
    json.loads(repaired(cut))
    assert found[:-1] == made[: len(found[:-1])]
    if found:
        last, true = found[-1], made[len(found) - 1]
        assert last.box in (None, true.box)
        assert true.category.startswith(last.category)
        assert last.text is None or (true.text or "").startswith(last.text)
    whole = text.count('"bbox"', 0, len(cut)) and cut.endswith("}") and found[-1].whole
    assert not whole or found[-1] == made[len(found) - 1]


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=60) | st.lists(st.sampled_from(SCRAPS), max_size=25).map("".join))
def test_anything_at_all_parses(text):
    json.loads(repaired(text))
    for one in read_cells(text):
        assert one.box is None or one.box[0] <= one.box[2]
        (one.text or "").encode("utf-8")


@settings(deadline=None, max_examples=40)
@given(cells, st.lists(st.integers(0, 400), max_size=6))
def test_cells_come_out_of_a_stream_as_they_come_to_their_end(made, cuts):
    text = written(made)
    stream, found = CellStream(), []
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for begin, end in pairwise(places):
        found += stream.push(text[begin:end])
    assert found + stream.close() == made


def test_broken_cells_cost_no_others():
    text = (
        '[{"bbox": [1, 2, 3, 4], "category": "Text", "text": "He said "hi" to \\alpha"}'
        ' {"bbox": [9, 9, 1, 1], "category": "Text", "text": "no comma"},'
        '{"bbox": [5, 6], "category": "Table"}, {"bbox": [5, 6, 7, 8.5], "category": "Picture"}'
    )
    first, second, third, fourth = read_cells(text)
    assert (first.text, first.whole) == ('He said "hi" to \\alpha', False)
    assert (second.box, second.whole) == ((1, 1, 9, 9), True)
    assert (third.box, third.category) == (None, "Table")
    assert fourth.box == (5, 6, 7, 8)
    assert len(json.loads(repaired(text))) == 4


def test_loops_are_told_once():
    one, two = Cell((1, 2, 3, 4), "Text", "a"), Cell((1, 2, 3, 5), "Text", "a")
    assert list(without_loops([one, one, two, two, one])) == [one, two, one]


def test_drafts_are_written_as_the_model_writes_and_come_back_as_markdown():
    surface = DotsSurface().on((1000, 500))  # its input has 1008 x 504 pixels
    regions = [
        Region(Box(10, 10, 200, 40), "title", 'A "quoted" title'),
        Region(Box(10, 50, 500, 90), "table", cells=(("a", "b"), ("1", "2"))),
        Region(Box(10, 100, 90, 140), "figure"),
        Region(Box(10, 150, 90, 190), "formula", "x^2"),
        Region(Box(10, 480, 90, 495), "page_number", "7"),
    ]
    text = ", ".join(surface.pieces(regions))
    assert text.startswith('[{"bbox": [10, 10, 202, 40], "category": "Section-header", "text": ')
    assert json.loads(text)[2] == {"bbox": [10, 101, 91, 141], "category": "Picture"}
    assert surface.markdown(text) == (
        '## A "quoted" title\n\n<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2</td></tr>'
        "</table>\n\n$$\nx^2\n$$"
    )
    assert surface.markdown("no cells here") == "no cells here"
    boxes = DotsOcr("layout_only").surface.on((1000, 500))
    assert json.loads(boxes.markdown(text[:60])) == [
        {"bbox": [10, 10, 202, 40], "category": "Section-header"}
    ]
    assert "text" not in boxes.write(regions[0])
    assert [one.kind for one in surface.found(text)] == [
        "title", "table", "figure", "formula", "footer",
    ]  # fmt: skip
    box = surface.found(text)[0].box
    assert max(abs(a - b) for a, b in zip(box, regions[0].box, strict=True)) < 0.6
    again = surface.rewritten(regions[3], "$$\ny^2\n$$")
    assert json.loads(again)["text"] == "$$\ny^2\n$$"


def test_every_prompt_of_the_release():
    from primum.errors import UserError
    from primum.parsing.targets.dots.prompts import PROMPTS

    page = (1000, 500)
    for mode in PROMPTS:
        box = [100, 100, 200, 200] if mode == "grounding" else None
        asked = DotsOcr(mode, box).page_prompt(page)
        assert asked.startswith(PROMPTS[mode][:20].split("{")[0])
    assert (
        DotsOcr("grounding", [100, 100, 200, 250])
        .page_prompt(page)
        .endswith("\nBounding Box:\n[100, 100, 201, 252]")
    )
    assert DotsOcr("svg").page_prompt(page).endswith('viewBox="0 0 1008 504"')
    assert "single JSON object.\n" in DotsOcr().page_prompt(page)
    assert DotsOcr().region_prompt("text", page) == "Extract the text content from this image."
    for wrong in ({"mode": "grounding"}, {"mode": "ocr", "box": [1, 2, 3, 4]}, {"mode": "poem"}):
        with pytest.raises(UserError):
            DotsOcr(**wrong)
