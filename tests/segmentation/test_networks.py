"""Full sizes build without memory, nothing changes a pretrained ViT before training does."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.segmentation.run import SIDE, network

from primum import conf_dir
from primum.errors import UserError
from primum.segmentation.networks.decoder import at_anchors
from primum.segmentation.networks.encoder import vit
from primum.segmentation.networks.uniseg import UniSeg
from primum.segmentation.s2uniseg import S2UniSegModule

COUNTS = {  # parameters by part: encoder, decoder, and projection with head
    "uniseg_small": (579_236, 199_187, 47_520),
    "uniseg_vits8": (22_688_936, 8_876_131, 1_936_000),
    "uniseg_vitb8": (87_785_952, 19_825_601, 6_624_256),
}


def described(name: str) -> UniSeg:
    config = OmegaConf.load(conf_dir() / "model" / f"{name}.yaml")
    if "pretrained" in config.backbone:
        config.backbone.pretrained = False
    with torch.device("meta"):
        return instantiate(config, _convert_="all")


@pytest.mark.parametrize("name", COUNTS)
def test_every_size_builds_on_meta_with_known_counts(name: str) -> None:
    made = described(name)
    assert all(weight.is_meta for weight in made.parameters())
    parts = [made.encoder, made.decoder, torch.nn.ModuleList([made.projection, made.head])]
    counts = tuple(sum(weight.numel() for weight in part.parameters()) for part in parts)
    assert counts == COUNTS[name]


def test_the_full_encoder_runs_on_meta() -> None:
    made = described("uniseg_vitb8")
    with torch.device("meta"):
        images = torch.empty(2, 3, 256, 256, dtype=torch.uint8)
        tokens, pyramid = made.tokens(images), made.encoder(made.normalised(images)).pyramid
        named = made.named(torch.empty(2, 200, 256))
    assert tokens.shape == (2, 16, 16, 768)  # patch 8 at half size
    assert [level.shape for level in pyramid] == [(2, 256, side, side) for side in (64, 32, 16, 8)]
    assert made.decoder.kinds == (150, 50) and named.shape == (2, 200, 512)


def test_tokens_are_the_vits_own_before_training() -> None:
    made = network().eval()
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    pixels = made.normalised(images)
    own = made.encoder.vit.forward_features(pixels)[:, 1:].unflatten(1, (8, 8))
    torch.testing.assert_close(made.tokens(images), own)
    whole = made.encoder(pixels).tokens.permute(0, 2, 3, 1)
    torch.testing.assert_close(whole, own)
    torch.nn.init.normal_(made.encoder.residual.weight)  # and not afterwards
    assert (made.tokens(images) - own).abs().max() > 0.1
    whole = made.encoder(pixels).tokens.permute(0, 2, 3, 1)
    torch.testing.assert_close(made.tokens(images), whole)


@pytest.mark.parametrize("anchored", [False, True])
def test_every_weight_learns(anchored: bool) -> None:
    """A weight without a gradient would hang DDP."""
    made = network(anchored=anchored)
    found = made(torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8))
    loss = sum(m.square().mean() for m in found.masks) + found.queries.square().mean()
    loss = loss + sum(o.sum() for o in found.objectness) + made.named(found.queries).sum()
    loss.backward()
    assert [name for name, weight in made.named_parameters() if weight.grad is None] == []


def test_anchored_queries_begin_as_what_lies_under_them() -> None:
    pixels = torch.zeros(1, 32, 6, 6)
    pixels[0, 7, :2, 2:4] = 1.0  # the middle of the upper third
    found = at_anchors(pixels, 3)[:, 0, 7]
    assert found.argmax() == 1 and (found > 0).sum() == 1


def test_other_image_sizes_and_shapes_work() -> None:
    made = network().eval()
    with torch.no_grad():
        found = made(torch.zeros(1, 3, 96, 32, dtype=torch.uint8))
    assert found.masks[-1].shape[-2:] == (24, 8)
    with pytest.raises(UserError, match="multiples of 32"):
        made(torch.zeros(1, 3, 60, 60, dtype=torch.uint8))


def test_an_unknown_vit_is_named() -> None:
    with pytest.raises(UserError, match="vit_giant_unheard_of"):
        vit("vit_giant_unheard_of")


@pytest.mark.parametrize(("preset", "uniap"), [("paper", "paper"), ("recommended", "author_code")])
def test_presets_build_with_the_full_network(preset: str, uniap: str) -> None:
    config = OmegaConf.load(conf_dir() / "module" / "s2uniseg_paper.yaml")
    if preset != "paper":
        config = OmegaConf.merge(
            config, OmegaConf.load(conf_dir() / f"module/s2uniseg_{preset}.yaml")
        )
        del config["defaults"]
    del config["network"]
    with torch.device("meta"):
        made = instantiate(config, network=described("uniseg_vitb8"), _convert_="object")
    assert isinstance(made, S2UniSegModule)
    assert made.proposals.preset == uniap
    student = sum(weight.numel() for weight in made.student.parameters())
    assert sum(weight.numel() for weight in made.teacher.parameters()) == student
    assert made.segmenting is made.teacher.network
