"""The shipped sample is the one that its script makes, and its pages have a text layer."""

from pathlib import Path

from demos import parsing

from primum.parsing.data import HELD_OUT
from primum.parsing.jobs.inputs import find_pages
from primum.parsing.synthesis.page import make_page, make_pdf


def test_the_sample_is_ours_and_held_out() -> None:
    assert max(parsing.SEEDS) < HELD_OUT
    pages = [make_page(seed, parsing.RECIPE) for seed in parsing.SEEDS]
    assert make_pdf(pages) == parsing.SAMPLE.read_bytes()
    found = list(find_pages(parsing.SAMPLE))
    for page, made in zip(found, pages, strict=True):
        assert page.image(72).size == made.image.size
        (first, *_) = page.text_layer(72)[0].text.split()
        assert first in made.markdown
    assert Path(parsing.__file__).with_suffix(".sh").is_file()
