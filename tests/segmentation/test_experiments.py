"""Every experiment of the family: at full size on `meta`, and one step of it in miniature."""

import io
import tarfile
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image
from tests.segmentation.test_s2uniseg import fitted, written

from primum import conf_dir
from primum.entry.choices import names
from primum.segmentation.data.scenes import Scenes
from primum.segmentation.networks import uniseg

EXPERIMENTS = [name for name in names("experiment", [conf_dir()]) if name.startswith("segm")]
MASKED = [name for name in EXPERIMENTS if "uniseg_tiny" not in name]  # a ViT, no masks
SIDE = 64
TINY = {
    "backbone": {
        "name": "vit", "img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2,
    },
    "channels": 32,
    "stem": 8,
    "head": {"prototypes": 16, "hidden": 32, "bottleneck": 16},
}  # fmt: skip


def composed(experiment: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(
            "train", [f"+experiment={experiment}", "run_id=now", "paths.output=here", *overrides]
        )


def pictures(root: Path, kind: str) -> dict[str, str]:
    """Four scenes in the layout that an experiment's source reads, and where they lie."""
    images = [Image.fromarray(Scenes(4, 1, SIDE).scene(i).image) for i in range(4)]
    if kind == "MaskFile":
        return {"root": str(root), "masks": str(written(root, "compressed"))}
    if kind == "TarShards":
        with tarfile.open(root / "sa_000000.tar", "w") as archive:
            for number, image in enumerate(images):
                stream = io.BytesIO()
                image.save(stream, "JPEG")
                entry = tarfile.TarInfo(f"./sa_{number}.jpg")
                entry.size = stream.tell()
                stream.seek(0)
                archive.addfile(entry, stream)
    folder = root / {"imagenet": "train/n01440764", "bsds500": "images/train"}.get(kind, "")
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number}.jpg")
    return {"root": str(root)}


def shrunk(cfg: DictConfig, root: Path) -> DictConfig:
    """The same experiment with a tiny network on four scenes."""
    decoder = {"hidden": 32, "instances": 9, "semantic": 3, "layers": 1, "pixel_layers": 1,
               "heads": 2, "feedforward": 32}  # fmt: skip
    kept = {key: cfg.model.decoder[key] for key in ("anchored",) if key in cfg.model.decoder}
    keeps = {key: cfg.model[key] for key in ("_target_", "reduction") if key in cfg.model}
    cfg.model = OmegaConf.create(TINY | keeps | {"decoder": decoder | kept})
    cfg.module.side = SIDE
    if "proposals" in cfg.module:
        cfg.module.proposals.instances = 9
    kind = cfg.data.train._target_.rpartition(".")[2]
    if kind == "Scenes":
        cfg.data.train.update(size=4, side=SIDE)
    else:
        cfg.data.train.update(pictures(root, kind))
    for name in ("side", "local_side"):
        cfg.data.views[name] = SIDE
    cfg.data.batch_size, cfg.data.num_workers = 2, 0
    return cfg


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.seconds
def test_full_size_builds_without_memory(experiment: str) -> None:
    cfg = composed(experiment, "paths.data=nowhere")
    with torch.device("meta"):
        made = instantiate(cfg.module, _convert_="all")
    assert all(weight.is_meta for weight in made.parameters())


@pytest.mark.parametrize("experiment", MASKED)
@pytest.mark.seconds
def test_a_step_in_miniature(experiment: str, tmp_path: Path) -> None:
    cfg = shrunk(composed(experiment, "paths.data=nowhere"), tmp_path)
    made = instantiate(cfg.module, _convert_="all")
    before = {name: value.clone() for name, value in made.state_dict().items()}
    wanted = {name: cfg.callbacks[name] for name in ("health", "pictures") if cfg.callbacks[name]}
    callbacks = [instantiate(one) for one in wanted.values()]
    steps = 1 + (cfg.trainer.get("accumulate_grad_batches", 1) > 1)
    trainer = fitted(
        made, instantiate(cfg.data, _convert_="all"), max_steps=1, callbacks=callbacks,
        accumulate_grad_batches=steps, gradient_clip_val=cfg.trainer.gradient_clip_val,
    )  # fmt: skip
    assert trainer.global_step == 1
    after = made.state_dict()
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert any(".head." in f".{name}" or "decoder" in name for name in moved), moved


def test_training_begins_with_the_pretrained_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Student, teacher and so UniAP start from the weights that the backbone asks for."""
    asked: list[Any] = []

    def had(name: str, weights: str | None, options: dict[str, Any]) -> tuple[Any, str, str]:
        asked.append((name, weights))
        network = uniseg.vit(name, **options)
        with torch.no_grad():
            for weight in network.parameters():
                weight.fill_(0.25)
        return network, "", ""

    monkeypatch.setattr(uniseg, "build", had)
    cfg = shrunk(composed("segmentation/quickstart"), Path())
    with open_dict(cfg):
        cfg.model.backbone.pretrained = True
    made = instantiate(cfg.module, _convert_="all")
    assert asked == [], "building a network downloads nothing"

    class Look(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            for network in (pl_module.student, pl_module.teacher.network):
                vit = network.encoder.vit
                assert all(bool((weight == 0.25).all()) for weight in vit.parameters())

    fitted(made, instantiate(cfg.data, _convert_="all"), max_steps=1, callbacks=[Look()])
    assert asked == [("vit", None)]


def test_pretrained_may_be_a_local_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    options = {"name": "vit_tiny_patch16_224", "depth": 2}
    network = uniseg.UniSeg(options, 32, 8, decoder={"hidden": 32, "heads": 2, "layers": 1})
    given = {name: value + 1 for name, value in network.encoder.vit.state_dict().items()}
    save_file(given, tmp_path / "dino.safetensors")
    network.backbone["pretrained"] = str(tmp_path / "dino.safetensors")
    network.load_pretrained()
    for name, value in network.encoder.vit.state_dict().items():
        assert torch.equal(value, given[name]), name
