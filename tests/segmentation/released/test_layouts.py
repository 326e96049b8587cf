"""Files with the exact key layout of released models: every key finds its place, or is listed."""

import numpy as np
import pytest
import timm
import torch
from tests.segmentation.released import layouts

from primum.errors import UserError
from primum.segmentation.released.coverage import coverage
from primum.segmentation.released.cutler import CutLer
from primum.segmentation.released.cutler import rename as cutler_keys
from primum.segmentation.released.key_maps import fit_state, rename
from primum.segmentation.released.unsam import UnSam
from primum.segmentation.released.unsam import rename as unsam_keys

SMALL = {"hidden": 32, "feedforward": 64, "encoder": 1, "decoder": 2, "queries": 5}


def small_unsam() -> UnSam:
    return UnSam(
        num_queries=5, short_side=64, hidden=32, feedforward=64, encoder_layers=1,
        decoder_layers=2, depths=(1, 1, 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layout", "registers"),
    [
        ("vit_small_patch16_224.dino", layouts.vit, 0),
        ("vit_small_patch14_dinov2", layouts.dinov2, 0),
        ("vit_small_patch14_reg4_dinov2", layouts.dinov2, 4),
        ("vit_small_patch16_dinov3", layouts.dinov3, 0),
        ("vit_small_patch16_dinov3_qkvb", layouts.dinov3, 0),
    ],
)
def test_dino_keys_find_their_place_in_timm(name: str, layout, registers: int) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        wanted = timm.create_model(name, num_classes=0).state_dict()
    options = {"depth": 12} | ({"registers": registers} if registers else {})
    state = layouts.filled(layout(**options))
    for key in state:
        if key.endswith("qkv.bias") and layout is layouts.dinov3:
            first, second = (0, None) if "qkvb" not in name else (384, 768)
            state[key][first:second] = 0
    made, dropped = rename(state, wanted)
    found = coverage(made, wanted, dropped)
    assert found.whole and found.matched == len(wanted), str(found)


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3_qkvb"])
def test_values_go_where_timm_puts_them(name: str) -> None:
    network = timm.create_model(name, num_classes=0, depth=2)
    third = "dinov3" in name
    state = layouts.filled(layouts.dinov3(depth=2) if third else layouts.dinov2(4, depth=2))
    for key in state:
        if third and key.endswith("qkv.bias"):
            state[key][384:768] = 0
    ours = fit_state(state, network, name)
    from timm.models import eva, vision_transformer

    theirs = (eva if third else vision_transformer).checkpoint_filter_fn(dict(state), network)
    assert set(theirs) <= set(ours)
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, rtol=0, atol=0)


def test_a_full_dino_checkpoint_loses_its_wrapping_and_head() -> None:
    network = timm.create_model("vit_small_patch16_224.dino", num_classes=0, depth=2)
    state = layouts.filled(layouts.vit(depth=2))
    wrapped = {f"module.backbone.{key}": tensor for key, tensor in state.items()}
    wrapped |= {
        "module.head.mlp.0.weight": torch.ones(2),
        "module.head.last_layer.weight_g": torch.ones(2),
    }
    ours = fit_state(wrapped, network, "dino")
    assert all(torch.equal(ours[key], state[key]) for key in state)


def test_a_wrong_layout_is_listed() -> None:
    network = timm.create_model("vit_small_patch16_224.dino", num_classes=0, depth=2)
    with pytest.raises(UserError, match=r"12 missing .*blocks\.1"):
        fit_state(layouts.filled(layouts.vit(depth=1)), network, "dino")
    with pytest.raises(UserError, match="misshapen"):
        fit_state(layouts.filled(layouts.vit(depth=2, patch=8)), network, "dino")
    with pytest.raises(UserError, match="missing"):
        small_unsam().load_released(layouts.filled(layouts.vit(depth=1)))


def test_unsam_at_full_size_has_every_key() -> None:
    with torch.device("meta"):
        model = UnSam()
    made, dropped = unsam_keys(layouts.filled(layouts.unsam(), "meta"))
    wanted = {k: v for k, v in model.network.state_dict().items() if not k.startswith("criterion")}
    found = coverage(made, wanted, dropped)
    assert found.whole and dropped == ["criterion.empty_weight"], str(found)
    old, _ = unsam_keys(layouts.filled(layouts.unsam(query_feat="static_query"), "meta"))
    assert coverage(old, wanted).whole, "files older than module version 2"


def test_cutler_at_full_size_has_every_key() -> None:
    with torch.device("meta"):
        wanted = CutLer().state_dict()
    state = layouts.filled(layouts.cutler(), "meta")
    made, dropped = cutler_keys(state)
    found = coverage(made, wanted, dropped)
    assert found.whole and not dropped and found.matched == len(state), str(found)


@pytest.mark.seconds
def test_two_networks_make_the_same_of_one_resnet() -> None:
    """transformers' and torchvision's ResNets under our two maps: keys could match by chance."""
    unsam, cutler = UnSam(num_queries=2, hidden=32, feedforward=64, encoder_layers=1,
                          decoder_layers=1), CutLer(channels=8, hidden=16)  # fmt: skip
    body = layouts.filled(layouts.resnet(""))
    one, _ = unsam_keys({f"backbone.{key}": tensor for key, tensor in body.items()})
    other, _ = cutler_keys({f"backbone.bottom_up.{key}": tensor for key, tensor in body.items()})
    assert not unsam.network.load_state_dict(one, strict=False).unexpected_keys
    assert not cutler.load_state_dict(other, strict=False).unexpected_keys
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        backbone = unsam.network.model.pixel_level_module.encoder.eval()
        first = backbone(image).feature_maps
        net = cutler.body.eval()
        features = net.maxpool(torch.relu(net.bn1(net.conv1(image))))
        for stage, expected in enumerate(first, 1):
            features = getattr(net, f"layer{stage}")(features)
            torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_a_small_unsam_segments() -> None:
    model = small_unsam()
    found = model.load_released(layouts.filled(layouts.unsam(**SMALL, depths=(1, 1, 1, 1))))
    assert found.whole
    masks = model.segment(np.random.default_rng(0).integers(0, 255, (50, 77, 3), np.uint8))
    assert len(masks) <= 5
    for mask in masks:
        assert mask["segmentation"].shape == (50, 77) and 0 < mask["score"] <= 1
        assert mask["area"] == mask["segmentation"].sum()


def test_a_small_cutler_detects() -> None:
    model = CutLer(short_side=64, long_side=128, least_score=0.0, most=7, channels=8, hidden=16)
    assert model.load_released(layouts.filled(layouts.cutler(8, 16))).whole
    masks = model.segment(np.random.default_rng(0).integers(0, 255, (40, 61, 3), np.uint8))
    assert 0 < len(masks) <= 7
    scores = [mask["score"] for mask in masks]
    assert scores == sorted(scores, reverse=True)
    for mask in masks:
        x, y, width, height = mask["bbox"]
        inside = np.zeros((40, 61), bool)
        inside[
            max(0, int(y) - 1) : int(y + height) + 2, max(0, int(x) - 1) : int(x + width) + 2
        ] = 1
        assert not (mask["segmentation"] & ~inside).any()
