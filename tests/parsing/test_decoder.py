"""Modes: who drafts for whom never changes what the page prompt decides."""

from functools import partial

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from tests.parsing.tiny_targets import TinyTarget

from primum import conf_dir
from primum.errors import UserError
from primum.parsing.decoding.cost import measure
from primum.parsing.decoding.decoder import Decoder, Page, crop
from primum.parsing.decoding.prefill import prefill
from primum.parsing.regions import Box, Region
from primum.parsing.speculation.alignment import Alignment
from primum.parsing.speculation.budget import FixedBudget
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch

PROPOSERS = [RegionMatch, OwnOutput, Alignment]
LENGTH = 60


def decoder(mode, **options) -> Decoder:
    options = {"budget": partial(FixedBudget, 16), "max_new_tokens": LENGTH, "batch": 3} | options
    return Decoder(mode, PROPOSERS, **options)


def image(shade: int) -> Image.Image:
    return Image.new("RGB", (40, 30), (shade, shade, shade))


def pages(target, count=3) -> list[Page]:
    """Pages whose regions hold what the target writes, in the wrong order."""
    made = [Page(image(shade)) for shade in range(count)]
    for page, found in zip(made, decoder("plain")(target, made), strict=True):
        words = found.text.split()
        page.regions = [
            Region(Box(0, 15, 40, 30), "text", " ".join(words[30:])),
            Region(Box(0, 0, 40, 15), "text", " ".join(words[:30])),
        ]
    return made


@pytest.mark.parametrize("kind", ["M-RoPE", "encoder-decoder"])
@pytest.mark.parametrize("mode", ["page", "hierarchical"])
@pytest.mark.seconds
def test_strict_modes_write_what_plain_decoding_writes(kind, mode):
    target = TinyTarget(kind)
    given = pages(target)
    plain = decoder("plain")(target, given)
    found = decoder(mode, verify=True)(target, given)
    assert [one.tokens for one in found] == [one.tokens for one in plain]
    assert all(one.verification.exact and not one.lossy for one in found)
    assert sum(one.trace.forwards for one in found) < sum(one.trace.forwards for one in plain) / 2


@pytest.mark.seconds
def test_region_mode_is_each_crop_decoded_plainly_and_says_what_it_is():
    target = TinyTarget()
    (page,) = pages(target, 1)
    (found,) = decoder("region")(target, [page])
    texts = [
        decoder("plain")(target, [Page(crop(page.image, region.box))])[0].text
        for region in page.regions
    ]
    assert found.text == " ".join(texts)
    assert "crops" in found.lossy
    (native,) = decoder("region")(TinyTarget(unit="region"), [page])
    assert native.lossy == ""
    (whole,) = decoder("page")(TinyTarget(unit="region"), [page])
    assert "page prompt" in whole.lossy


@pytest.mark.parametrize("mode", ["page", "hierarchical", "region"])
def test_a_page_without_regions(mode):
    target = TinyTarget()
    (plain,) = decoder("plain")(target, [Page(image(7))])
    (found,) = decoder(mode)(target, [Page(image(7))])
    assert len(found.tokens) == LENGTH
    if mode != "region":
        assert found.tokens == plain.tokens


def test_auto_tries_the_modes_and_settles_on_the_fastest():
    target = TinyTarget()
    given = pages(target, 1)
    auto = decoder("auto", batch=1)
    used = [auto(target, given)[0].mode for _ in range(3)]
    assert sorted(used) == ["hierarchical", "page", "plain"]
    auto.pace = {"plain": [1.0, 10.0], "page": [1.0, 90.0], "hierarchical": [1.0, 20.0]}
    assert auto(target, given)[0].mode == "page"
    auto.batch, later = 8, []  # one page at a time, whatever would fit
    for _ in range(200):
        later.append(auto._choose(target, given))
        auto._pages += 1
    assert 195 <= later.count("page") < 200  # now and then the others are looked at again


@pytest.mark.seconds
def test_tolerance_is_labelled():
    target = TinyTarget()
    (found,) = decoder("page", tolerance=0.5)(target, pages(target, 1))
    assert found.lossy == "tolerance 0.5"
    target = TinyTarget("1-D")
    page = pages(target, 1)[0]
    page.regions = [Region(Box(0, 0, 40, 30), "text", page.regions[0].text)]
    (checked,) = decoder("page", tolerance=1e-6, verify=True)(target, [page])
    (plain,) = decoder("plain")(target, [page])
    shift = float(checked.lossy.rsplit(" ", 1)[1])
    assert (shift > 0) == (checked.tokens != plain.tokens)
    with pytest.raises(UserError, match="tolerance"):
        decoder("page", tolerance=0.0)


def test_costs_are_measured_without_spending_the_prompt():
    target = TinyTarget()
    inputs = target.page_inputs(image(3))
    sequence = prefill(target.model, inputs, max_new_tokens=8)
    length = sequence.cache.get_seq_length()
    costs = measure(target.model, [sequence], widths=(1, 4), repeats=2)
    assert set(costs) == {1, 4} and min(costs.values()) > 0
    assert sequence.cache.get_seq_length() == length
    (found,) = decoder("page", budget=None)(target, pages(target, 1))
    assert len(found.tokens) == LENGTH


def test_crops_stay_on_the_page():
    page = image(0)
    assert crop(page, Box(-20, -20, 100, 100)).size == (40, 30)
    assert crop(page, Box(50, 50, 60, 60)).size == (1, 1)


@pytest.mark.parametrize("name", ["plain", "page", "hierarchical", "region", "auto"])
def test_configs_make_decoders(name):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("decoding/" + name)
    made = instantiate(OmegaConf.to_container(config)["decoding"], _convert_="all")
    assert made.mode == name
    assert len(made.proposers) == (0 if name == "plain" else 3)
