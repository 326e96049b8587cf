"""Every adapter on a tiny random checkpoint of its architecture, in the released layout."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import instantiate
from PIL import Image, ImageDraw
from safetensors import safe_open

from primum import conf_dir
from primum.checkpoints.released import entries
from primum.parsing.decoding.decoder import Decoder, Page, crop
from primum.parsing.decoding.graphs import FixedSteps, can_be_fixed
from primum.parsing.decoding.loop import decode, row
from primum.parsing.decoding.prefill import prefill
from primum.parsing.decoding.steps import can_take_trees
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.regions import Box, Region
from primum.parsing.speculation.budget import FixedBudget
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.targets.adapter import AdaptedTarget
from primum.parsing.targets.known import ADAPTERS, adapter_of
from primum.parsing.targets.recipes import RECIPES
from primum.parsing.targets.tiny import make_tiny

NAMES = [adapter.name for adapter in ADAPTERS]
TOKENS = 256

# One name of each kind of tensor in the released files.
LAYOUT = {
    "dots_ocr": [
        "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.bias", "lm_head.weight",
        "vision_tower.patch_embed.patchifier.proj.bias",
        "vision_tower.patch_embed.patchifier.norm.weight", "vision_tower.blocks.1.attn.qkv.weight",
        "vision_tower.blocks.1.mlp.fc3.weight", "vision_tower.post_trunk_norm.weight",
        "vision_tower.merger.ln_q.bias", "vision_tower.merger.mlp.2.weight",
    ],
    "paddleocr_vl": [
        "model.embed_tokens.weight", "model.layers.1.mlp.gate_proj.weight", "mlp_AR.linear_1.bias",
        "mlp_AR.pre_norm.weight", "visual.vision_model.embeddings.patch_embedding.weight",
        "visual.vision_model.encoder.layers.0.self_attn.out_proj.bias",
    ],
    "glm_ocr": [
        "model.language_model.embed_tokens.weight", "lm_head.weight",
        "model.language_model.layers.0.mlp.gate_up_proj.weight",
        "model.language_model.layers.0.post_self_attn_layernorm.weight",
        "model.visual.blocks.0.attn.q_norm.weight", "model.visual.merger.gate_proj.weight",
        "model.visual.downsample.weight", "model.visual.patch_embed.proj.weight",
    ],
    "granite_docling": [
        "model.text_model.embed_tokens.weight", "model.text_model.layers.1.self_attn.o_proj.weight",
    ],
    "qwen2_5_vl": [
        "model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.bias", "lm_head.weight",
        "visual.patch_embed.proj.weight", "visual.blocks.0.mlp.up_proj.bias",
        "visual.merger.mlp.2.weight",
    ],
    "qwen3_vl": [
        "model.language_model.layers.0.self_attn.q_norm.weight", "lm_head.weight",
        "model.visual.pos_embed.weight", "model.visual.deepstack_merger_list.0.linear_fc1.weight",
    ],
    "lighton_ocr": [
        "model.vision_encoder.patch_conv.weight",
        "model.vision_projection.patch_merger.merging_layer.weight",
        "model.language_model.layers.0.self_attn.k_norm.weight",
    ],
    "hunyuan_ocr": [
        "model.layers.0.self_attn.query_layernorm.weight", "model.embed_tokens.weight",
    ],
    "got_ocr2": ["language_model.model.layers.0.self_attn.q_proj.bias"],
    "deepseek_ocr2": [
        "model.embed_tokens.weight", "model.layers.1.mlp.experts.3.down_proj.weight",
        "model.layers.1.mlp.shared_experts.up_proj.weight", "model.sam_model.blocks.0.norm1.weight",
        "model.sam_model.neck.0.weight",
    ],
    "smoldocling": [
        "model.text_model.layers.0.self_attn.v_proj.weight", "lm_head.weight",
        "model.connector.modality_projection.proj.weight",
        "model.vision_model.encoder.layers.0.mlp.fc1.bias",
    ],
}  # fmt: skip


@functools.cache
def checkpoint(name: str, root: Path) -> Path:
    return make_tiny(name, root / name)


@functools.cache
def target(name: str, root: Path) -> AdaptedTarget:
    source = PretrainedVlm(str(checkpoint(name, root)), dtype="float32")
    model = source.model().double()
    if name == "deepseek_ocr2":
        model.set_experts_implementation("eager")  # the grouped product knows no float64
    made = AdaptedTarget(model, source.processor(), adapter_of(model))
    model.generation_config.eos_token_id = None
    return made


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def page() -> Image.Image:
    image = Image.new("RGB", (196, 140), "white")
    ImageDraw.Draw(image).text((10, 10), "A page to read", fill="black")
    return image


def prepared(one: AdaptedTarget, inputs: dict) -> dict:
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def test_there_is_a_tiny_model_a_config_and_an_entry_of_each():
    assert set(RECIPES) == set(NAMES) == set(LAYOUT)
    known = {name.removeprefix("parsing/") for name in entries() if name.startswith("parsing/")}
    assert set(NAMES) <= known
    assert {file.stem for file in (conf_dir() / "target").glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=NAMES)
def test_configs_make_the_adapters(adapter):
    made = instantiate(yaml.safe_load((conf_dir() / "target" / f"{adapter.name}.yaml").read_text()))
    assert type(made) is adapter and made.identity()["name"] == adapter.name


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_have_the_released_names(name, root):
    with safe_open(checkpoint(name, root) / "model.safetensors", "pt") as file:
        keys = set(file.keys())
    missing = [key for key in LAYOUT[name] if key not in keys]
    assert not missing, (missing, sorted(re.sub(r"\d+", "N", key) for key in keys))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.seconds
def test_drafts_change_no_token_of_what_the_model_is_made_for(name, root):
    one = target(name, root)
    image = page()
    inputs = one.page_inputs(image) if one.unit != "region" else one.region_inputs(image, "text")
    inputs = prepared(one, inputs)
    with torch.inference_mode():
        ids = one.model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
    plain = ids[0, inputs["input_ids"].shape[1] :].tolist()
    assert len(plain) == TOKENS and len(set(plain)) >= 64
    noisy = np.array(plain)
    rng = np.random.default_rng(0)
    wrong = rng.random(TOKENS) < 0.1
    noisy[wrong] = rng.integers(3, 200, wrong.sum())
    draft = Draft("", noisy.astype(np.int64), np.zeros(1, dtype=np.int64))
    speculator = Speculator([RegionMatch(), OwnOutput()], FixedBudget(12))
    sequence = prefill(one.model, inputs, max_new_tokens=TOKENS)
    speculator.start([draft])
    drafted = row(sequence, speculator)
    assert can_take_trees(one.model, sequence) and can_be_fixed([sequence], "cpu")
    assert FixedSteps(one.model, [sequence], 1024, capture=False).portable
    decode(one.model, [sequence], [drafted])
    assert drafted.rules.output == plain
    assert drafted.trace.forwards < TOKENS / 2


@pytest.mark.parametrize("name", ["paddleocr_vl", "glm_ocr"])
def test_region_mode_is_the_models_own_pipeline_decoded_plainly(name, root):
    one = target(name, root)
    image = page()
    kinds = ["text", "table", "formula"]
    boxes = [Box(5, 5, 190, 40), Box(5, 45, 190, 90), Box(5, 95, 100, 135)]
    regions = [Region(box, kind, "?") for box, kind in zip(boxes, kinds, strict=True)]
    options = {"max_new_tokens": 24, "batch": 3}
    given = {**vars(one)}
    one.page_inputs = lambda image: prepared(one, AdaptedTarget.page_inputs(one, image))
    one.region_inputs = lambda *asked: prepared(one, AdaptedTarget.region_inputs(one, *asked))
    try:
        decoder = Decoder(
            "region", [RegionMatch, OwnOutput], functools.partial(FixedBudget, 8), **options
        )
        (found,) = decoder(one, [Page(image, regions)])
        assert found.lossy == ""
        tokens = []
        for region in regions:
            inputs = one.region_inputs(crop(image, region.box), region.kind)
            ids = one.model.generate(**inputs, do_sample=False, max_new_tokens=24)
            tokens += ids[0, inputs["input_ids"].shape[1] :].tolist()
        assert found.tokens == tokens
        (whole,) = Decoder("page", [OwnOutput], **options)(one, [Page(image)])
        assert bool(whole.lossy) == (one.unit == "region")
    finally:
        one.__dict__.clear()
        one.__dict__.update(given)


@pytest.mark.parametrize("name", ["dots_ocr", "granite_docling"])
@pytest.mark.parametrize("mode", ["page", "hierarchical"])
def test_marked_up_drafts_of_regions_change_nothing(name, mode, root):
    """Boxes, categories and tags are drafted too; whatever comes of it, the tokens stay."""
    one = target(name, root)
    image = page()
    regions = [
        Region(Box(5, 5, 190, 40), "title", "A page to read"),
        Region(Box(5, 45, 190, 90), "table", cells=(("a", "b"), ("c", "d"))),
        Region(Box(5, 95, 100, 135), "formula", "x^2"),
    ]
    given = {**vars(one)}
    one.page_inputs = lambda image: prepared(one, AdaptedTarget.page_inputs(one, image))
    one.region_inputs = lambda *asked: prepared(one, AdaptedTarget.region_inputs(one, *asked))
    try:
        options = {"max_new_tokens": 40, "batch": 3}
        (plain,) = Decoder("plain", **options)(one, [Page(image)])
        decoder = Decoder(mode, [RegionMatch, OwnOutput], lambda: FixedBudget(8), **options)
        (found,) = decoder(one, [Page(image, regions)])
    finally:
        one.__dict__.clear()
        one.__dict__.update(given)
    assert found.tokens == plain.tokens and found.text == plain.text and not found.lossy


def test_otsl_and_doctags_become_markdown():
    from primum.parsing.targets.doctags import DocTags
    from primum.parsing.targets.otsl import html
    from primum.parsing.targets.paddleocr_vl import PaddleSurface

    merged = "<fcel>a<lcel><nl><ucel><xcel><nl><fcel>1 < 2<ecel><nl>"
    assert html(merged) == (
        '<table><tr><td rowspan="2" colspan="2">a</td></tr><tr></tr>'
        "<tr><td>1 &lt; 2</td><td></td></tr></table>"
    )
    surface = DocTags().on((1000, 500))
    regions = [
        Region(Box(100, 50, 200, 100), "title", "Doses"),
        Region(Box(100, 150, 200, 200), "table", cells=(("a", "b"), ("1", ""))),
        Region(Box(100, 250, 200, 300), "list", "- one"),
        Region(Box(100, 350, 200, 400), "page_number", "7"),
    ]
    text = "\n".join(surface.pieces(regions))
    assert text.startswith(
        "<doctag><section_header_level_1><loc_50><loc_50><loc_100><loc_100>Doses<"
    )
    told = surface.found(text)
    assert [one.kind for one in told] == ["title", "table", "list", "footer"]
    assert told[0].box == Box(100, 50, 200, 100)
    assert surface.markdown(text) == (
        "# Doses\n\n<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td></td></tr></table>"
        "\n\n- one"
    )
    cut = surface.markdown(text[: text.index("<fcel>")])
    assert cut.startswith("# Doses\n\n<table><tr><th>a</th>")
    paddle = PaddleSurface()
    assert paddle.markdown("see \\( x \\)", "text") == "see $x$"
    assert paddle.markdown("\\[ x \\]", "formula") == "$$\nx\n$$"
    assert paddle.markdown("Doses", "title") == "# Doses"


def test_deepseeks_places_come_and_go():
    from primum.parsing.targets.deepseek_ocr2 import DeepSeekOcr2

    surface = DeepSeekOcr2().surface.on((999, 1998))
    text = surface.write(Region(Box(10, 20, 30, 40), "title", "Doses"))
    assert text == "<|ref|>sub_title<|/ref|><|det|>[[10, 10, 30, 20]]<|/det|>\n## Doses"
    assert surface.markdown(text) == "## Doses"
    (found,) = surface.found(text)
    assert (found.kind, found.text, found.box) == ("title", "## Doses", Box(10, 20, 30, 40))
