"""dots.ocr's blocks against NumPy in float64, its names, its pictures, and the full size."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from primum.errors import UserError
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.targets.dots.configuration import DotsOCRConfig, DotsVisionConfig
from primum.parsing.targets.dots.model import DotsOCRForCausalLM, full_size
from primum.parsing.targets.dots.processor import framed
from primum.parsing.targets.dots.registration import register
from primum.parsing.targets.dots.vision import DotsVisionTower, patch_places, rotary
from primum.parsing.targets.dots_ocr import LARGEST, SMALLEST, DotsOcr, input_size
from primum.parsing.targets.tiny import make_tiny

SMALL = {
    "embed_dim": 48, "hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 2,
    "num_attention_heads": 3, "patch_size": 4,
}  # fmt: skip
GRID = [[1, 4, 6], [1, 2, 2]]


def rms(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def numpy_tower(config: DotsVisionConfig, weights: dict, pixels: np.ndarray, grid) -> np.ndarray:
    """The vision tower from its description, patch by patch and head by head."""
    w = {name: value.numpy() for name, value in weights.items()}
    merge, heads = config.spatial_merge_size, config.num_attention_heads
    size = config.embed_dim // heads
    kernel = w["patch_embed.patchifier.proj.weight"].reshape(config.embed_dim, -1)
    x = pixels @ kernel.T + w["patch_embed.patchifier.proj.bias"]
    x = rms(x, w["patch_embed.patchifier.norm.weight"], config.rms_norm_eps)
    places, pictures = [], []
    for number, (_, rows, columns) in enumerate(grid):
        for block_row in range(rows // merge):
            for block_column in range(columns // merge):
                for row in range(merge):
                    for column in range(merge):
                        places.append((block_row * merge + row, block_column * merge + column))
                        pictures.append(number)
    angles = np.zeros((len(places), size))
    for patch, place in enumerate(places):
        for half in range(size // 2):
            axis, step = divmod(half, size // 4)
            frequency = config.rope_theta ** (-2 * step / (size // 2))
            angles[patch, half] = angles[patch, half + size // 2] = place[axis] * frequency
    same = np.equal.outer(pictures, pictures)

    def turn(part):
        half = np.concatenate([-part[:, size // 2 :], part[:, : size // 2]], -1)
        return part * np.cos(angles) + half * np.sin(angles)

    for layer in range(config.num_hidden_layers):
        p = f"blocks.{layer}."
        y = rms(x, w[p + "norm1.weight"], config.rms_norm_eps) @ w[p + "attn.qkv.weight"].T
        parts = y.reshape(len(x), 3, heads, size)
        out = np.zeros((len(x), heads, size))
        for head in range(heads):
            query, key = turn(parts[:, 0, head]), turn(parts[:, 1, head])
            score = np.where(same, query @ key.T / math.sqrt(size), -np.inf)
            score = np.exp(score - score.max(-1, keepdims=True))
            out[:, head] = score / score.sum(-1, keepdims=True) @ parts[:, 2, head]
        x = x + out.reshape(len(x), -1) @ w[p + "attn.proj.weight"].T
        y = rms(x, w[p + "norm2.weight"], config.rms_norm_eps)
        gate = y @ w[p + "mlp.fc1.weight"].T
        y = gate / (1 + np.exp(-gate)) * (y @ w[p + "mlp.fc3.weight"].T)
        x = x + y @ w[p + "mlp.fc2.weight"].T
    x = rms(x, w["post_trunk_norm.weight"], config.rms_norm_eps)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x * w["merger.ln_q.weight"] + w["merger.ln_q.bias"]
    x = x.reshape(-1, merge * merge * config.embed_dim)
    x = gelu(x @ w["merger.mlp.0.weight"].T + w["merger.mlp.0.bias"])
    return x @ w["merger.mlp.2.weight"].T + w["merger.mlp.2.bias"]


def random_tower(**more) -> DotsVisionTower:
    torch.manual_seed(0)
    tower = DotsVisionTower(DotsVisionConfig(**(SMALL | more))).double().eval()
    for weight in tower.parameters():
        weight.data = torch.randn_like(weight) / max(1, weight[0].numel()) ** 0.5
    return tower


def test_the_tower_is_what_its_description_says():
    tower = random_tower()
    pixels = torch.randn(28, 48, dtype=torch.float64)
    with torch.no_grad():
        found = tower(pixels, torch.tensor(GRID)).numpy()
    expected = numpy_tower(tower.config, tower.state_dict(), pixels.numpy(), GRID)
    assert found.shape == (7, 40)
    assert np.abs(found - expected).max() < 1e-6 and np.abs(expected).max() > 0.1


def test_rotary_positions_and_merger_are_those_of_dots3_note():
    from transformers.models.dots3_note import modeling_dots3_note as other
    from transformers.models.dots3_note.configuration_dots3_note import Dots3NoteVisionConfig

    theirs = Dots3NoteVisionConfig(hidden_size=48, num_attention_heads=3, adapter_in_dim=48,
                                   pyramid_num_routed=[-1], num_hidden_layers=1)  # fmt: skip
    theirs.rope_parameters = {"rope_type": "axial", "rope_theta": 10_000.0}
    places = patch_places(torch.tensor(GRID), 2)
    want = other.Dots3NoteVisionRotaryEmbedding(theirs)(torch.zeros(1), places)
    for mine, one in zip(rotary(places, 16, 10_000.0), want, strict=True):
        torch.testing.assert_close(mine, one)
    tower = random_tower()
    merger = other.Dots3NoteVisionMerger(40, 48, 2).double()
    merger.load_state_dict(tower.merger.state_dict())
    x = torch.randn(8, 48, dtype=torch.float64)
    torch.testing.assert_close(tower.merger(x), merger(x))


def test_pictures_do_not_see_each_other():
    tower = random_tower()
    pixels = torch.randn(28, 48, dtype=torch.float64)
    with torch.no_grad():
        both = tower(pixels, torch.tensor(GRID))
        alone = tower(pixels[24:], torch.tensor(GRID[1:]))
    torch.testing.assert_close(both[6:], alone)


def test_the_full_size_has_the_released_count_of_weights():
    model = full_size("meta")
    count = sum(weight.numel() for weight in model.parameters())
    assert count == 3_039_179_264
    assert sum(weight.numel() for weight in model.vision_tower.parameters()) == 1_262_091_264
    assert len(model.state_dict()) == 3 + 28 * 12 + 42 * 7 + 3 + 1 + 6


@pytest.mark.parametrize("size", [(1654, 2339), (28, 28), (10, 10), (5, 900), (6000, 8000),
                                  (42, 70), (3359, 3361), (13, 27), (20_000, 200)])  # fmt: skip
def test_pictures_are_resized_by_the_released_arithmetic(size):
    """Rounded to multiples of 28, half to even; then scaled into the allowed area, in fractions."""
    width, height = input_size(*size)
    near = [round(Fraction(side, 28)) * 28 for side in size]
    area = size[0] * size[1]
    if near[0] * near[1] > LARGEST:
        near = [max(28, 28 * math.isqrt(side * side * LARGEST // (area * 784))) for side in size]
    elif near[0] * near[1] < SMALLEST:
        exact = [side * side * SMALLEST / Fraction(area) / 784 for side in size]
        near = [28 * next(n for n in range(10_000) if n * n >= one) for one in exact]
    assert (width, height) == tuple(near)
    assert SMALLEST <= width * height <= LARGEST and width % 28 == height % 28 == 0


def test_a_strip_is_refused_in_the_users_words():
    with pytest.raises(UserError, match="too narrow"):
        input_size(10, 2001)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A tiny checkpoint with the files of the release, the traces of its remote code included."""
    folder = make_tiny("dots_ocr", tmp_path_factory.mktemp("dots") / "model")
    file = folder / "config.json"
    config = json.loads(file.read_text())
    rope = config.pop("rope_parameters")
    config |= {
        "rope_theta": rope["rope_theta"], "rope_scaling": None, "attention_bias": True,
        "auto_map": {"AutoConfig": "configuration_dots.DotsOCRConfig",
                     "AutoModelForCausalLM": "modeling_dots_ocr.DotsOCRForCausalLM"},
    }  # fmt: skip
    config["vision_config"] |= {
        "attn_implementation": "flash_attention_2", "init_merger_std": 0.02, "is_causal": False,
        "gradient_checkpointing": False,
    }  # fmt: skip
    file.write_text(json.dumps(config))
    processor = folder / "processor_config.json"
    pictures = json.loads(processor.read_text())["image_processor"]
    processor.unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(
        {k: v for k, v in pictures.items() if k not in ("size", "processor_class")}
        | {"min_pixels": SMALLEST, "max_pixels": LARGEST, "processor_class": "DotsVLProcessor"}
    ))  # fmt: skip
    return folder


def test_the_release_loads_without_its_remote_code(released):
    source = PretrainedVlm(str(released), dtype="float32")
    model, processor = source.model(), source.processor()
    assert type(model) is DotsOCRForCausalLM and type(processor).__name__ == "DotsVLProcessor"
    assert model.config.rope_parameters["rope_theta"] == 1_000_000.0
    assert processor.image_processor.temporal_patch_size == 1
    image = Image.new("RGB", (300, 200), "white")
    inputs = DotsOcr("ocr").inputs(processor, image, "Read.")
    assert input_size(300, 200) == (308, 196)
    assert inputs["image_grid_thw"].tolist() == [[1, 14, 22]]
    assert inputs["pixel_values"].shape == (308, 588)
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(model.config.image_token_id) == 77
    text = processor.tokenizer.decode(ids).replace("<|imgpad|>" * 77, "<|imgpad|>")
    assert text == framed("Read.")


def test_the_hub_path_loads_it_too(released):
    from primum.checkpoints.resolve import resolve

    assert resolve(released).kind == "full"


def test_names_survive_a_round_trip(released, tmp_path):
    from safetensors.torch import load_file

    register()
    model = PretrainedVlm(str(released), dtype="float32").model()
    model.save_pretrained(tmp_path)
    before, after = (
        load_file(released / "model.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_rehearsal_sees_a_page_of_its_real_size_and_follows_its_script(monkeypatch):
    from primum.parsing import rehearsal
    from primum.parsing.decoding.loop import Row, decode
    from primum.parsing.decoding.prefill import prefill
    from primum.parsing.speculation.trace import Trace

    config = DotsOCRConfig(
        vocab_size=64, hidden_size=40, num_hidden_layers=1, intermediate_size=40,
        num_attention_heads=2, image_token_id=63, vision_config=SMALL | {"patch_size": 14},
    )  # fmt: skip
    monkeypatch.setattr(rehearsal, "full_size", lambda *_: DotsOCRForCausalLM(config).eval())
    model = rehearsal.rehearsal_model("dots", torch.float32)
    inputs = rehearsal.dots_page(model, Image.new("RGB", (300, 200)), prompt=9)
    assert inputs["input_ids"].shape == (1, 77 + 9)
    script = [5, 6, 7, 5, 6, 7]
    sequence = prefill(model, inputs, max_new_tokens=len(script))
    one = Row(rehearsal.RehearsedRules(sequence, script), None, Trace([]))
    decode(model, [sequence], [one])
    assert one.rules.output == script


def test_wrong_counts_of_image_tokens_are_named():
    config = DotsOCRConfig(
        vocab_size=64, hidden_size=40, num_hidden_layers=1, intermediate_size=40,
        num_attention_heads=2, image_token_id=9, vision_config=SMALL,
    )  # fmt: skip
    model = DotsOCRForCausalLM(config)
    with pytest.raises(ValueError, match="2 image tokens, 1 image features"):
        model(
            input_ids=torch.tensor([[1, 9, 9]]),
            pixel_values=torch.randn(4, 48),
            image_grid_thw=torch.tensor([[1, 2, 2]]),
        )
