"""Synthetic pages: the same from a seed, true to their annotations, and their PDF says the same."""

import re

import numpy as np
import pytest

from primum.errors import UserError
from primum.parsing.synthesis.fonts import family
from primum.parsing.synthesis.page import PACKAGED, Recipe, SyntheticPage, make_page, make_pdf

FULL = Recipe(
    columns=(2,), width=(640, 700), characters=(700, 900),
    chances={"heading": 1, "list": 1, "table": 1, "formula": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def pages() -> list[SyntheticPage]:
    return [make_page(seed) for seed in range(12)] + [make_page(seed, FULL) for seed in range(3)]


def test_a_seed_makes_the_same_page_again(pages: list[SyntheticPage]) -> None:
    again = make_page(pages[0].seed)
    assert again.markdown == pages[0].markdown
    assert again.image.tobytes() == pages[0].image.tobytes()
    assert make_pdf([again]) == pages[0].pdf()
    assert len({page.markdown for page in pages}) == len(pages)
    assert {page.family for page in (make_page(seed) for seed in range(40))} == set(PACKAGED)


def test_ink_lies_in_the_boxes_and_in_every_box(pages: list[SyntheticPage]) -> None:
    for page in pages:
        dark = np.asarray(page.image) < 128
        inside = np.zeros_like(dark)
        for one in page.placed:
            for run in one.runs:
                left, top, right, bottom = (int(edge) for edge in run.box)
                assert dark[top : bottom + 1, left : right + 1].any(), (page.seed, run.text)
            left, top, right, bottom = one.box
            inside[int(top) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2] = True
        assert not (dark & ~inside).any(), page.seed
        assert page.image.width % 16 == page.image.height % 16 == 0


def test_blocks_do_not_overlap(pages: list[SyntheticPage]) -> None:
    for page in pages:
        boxes = [one.box for one in page.placed]
        for number, box in enumerate(boxes):
            assert all(box.overlap(other) == 0 for other in boxes[number + 1 :]), page.seed


def test_a_full_page_has_two_columns_in_reading_order(pages: list[SyntheticPage]) -> None:
    lefts = [one.box.left > pages[-1].image.width / 2 for one in pages[-1].placed]
    assert any(lefts) and lefts == sorted(lefts)


def test_the_annotations_are_omnidocbenchs(pages: list[SyntheticPage]) -> None:
    from primum.benchmarks.omnidocbench.annotations import page_size
    from primum.benchmarks.omnidocbench.lines import Rules
    from primum.benchmarks.omnidocbench.page import match_page

    for page in pages:
        annotation = page.annotation("page.png")
        assert page_size(annotation) == page.image.size
        found = match_page(annotation, page.markdown, Rules())
        every = [*found.text, *found.formulas, *found.tables]
        assert len(found.tables) + len(found.formulas) == sum(
            one.block.kind in ("table", "formula") for one in page.placed
        )
        assert all(pair.guess == pair.truth for pair in every), page.seed
        assert found.read == found.orders


def test_the_pdf_twin_says_what_the_page_says(pages: list[SyntheticPage]) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    document = pdfium.PdfDocument(make_pdf(pages))
    assert len(document) == len(pages)
    for page, twin in zip(pages, document, strict=True):
        assert twin.get_size() == page.image.size
        text = re.sub(r"\s", "", twin.get_textpage().get_text_range())
        for one in page.placed:
            for run in one.runs:
                assert run.latex or re.sub(r"\s", "", run.text) in text, (page.seed, run.text)
        # the same ink in the same places, up to a few pixels of hinting
        drawn = np.asarray(twin.render(scale=1).to_pil().convert("L")) < 128
        page_ink = np.asarray(page.image) < 128
        for one in page.placed:
            left, top, right, bottom = (int(edge) for edge in one.box)
            here, there = (
                ink[top : bottom + 2, left : right + 2].sum() for ink in (page_ink, drawn)
            )
            assert 0.4 < there / here < 2.5, (page.seed, one.block.kind)


def test_short_lines_for_beginners() -> None:
    recipe = Recipe(width=(96, 128), characters=(4, 10), paragraph=10, chances={}, margin=4)
    for seed in range(20):
        page = make_page(seed, recipe)
        assert 1 <= len(page.markdown) <= 24 and "\n" not in page.markdown


def test_an_unknown_typeface_is_named() -> None:
    with pytest.raises(UserError, match="comic"):
        family("comic")
