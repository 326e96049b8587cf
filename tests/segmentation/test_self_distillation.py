"""A ViT by itself: its loss falls, its teacher follows, and its release is a backbone."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.segmentation.test_s2uniseg import fitted

from primum.checkpoints.manifest import Manifest, write_manifest
from primum.checkpoints.resolve import resolve
from primum.errors import UserError
from primum.files import sha256
from primum.segmentation.data.datamodule import ImageData
from primum.segmentation.data.multicrop import MultiCrop
from primum.segmentation.data.packaged import HELD_OUT, TRAIN, PhotoCrops, photographs
from primum.segmentation.networks.encoder import vit
from primum.segmentation.release import release
from primum.segmentation.self_distillation import DenseSelfDistillation

VIT = {
    "_target_": "primum.segmentation.networks.encoder.vit", "name": "vit_small_patch16_rope_224",
    "img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2,
    "class_token": False, "init_values": None,
}  # fmt: skip


def module() -> DenseSelfDistillation:
    torch.manual_seed(0)
    network = vit(**{key: value for key, value in VIT.items() if key != "_target_"})  # type: ignore[arg-type]
    return DenseSelfDistillation(
        network, functools.partial(torch.optim.AdamW, lr=3e-3), 16, grid=3, momentum=0.9
    )


@pytest.mark.seconds
def test_the_loss_falls_and_the_teacher_follows() -> None:
    data = ImageData(
        functools.partial(PhotoCrops, 8, 0, 48), MultiCrop(32, 32, 0, (0.5, 1.0)), batch_size=8
    )
    made = module()
    before = made.teacher.network.blocks[0].mlp.fc1.weight.clone()
    trainer = fitted(made, data, max_steps=25, overfit_batches=1)
    trace = [loss for _, loss in trainer.callbacks[1].trace]  # type: ignore[attr-defined]
    assert sum(trace[-5:]) < 0.97 * sum(trace[:5]), trace
    assert not torch.equal(before, made.teacher.network.blocks[0].mlp.fc1.weight)


def test_crops_are_repeatable_and_never_of_held_out_photographs() -> None:
    first, second = PhotoCrops(30, 3, 48), PhotoCrops(30, 3, 48)
    assert all(torch.equal(first.read(index), second.read(index)) for index in range(6))
    assert not torch.equal(first.read(0), PhotoCrops(30, 4, 48).read(0))
    assert first.read(0).shape == (3, 48, 48) and first.read(0).dtype == torch.uint8
    assert not set(photographs(TRAIN)) & set(photographs(HELD_OUT))


def test_a_release_holds_the_teacher_and_what_it_takes_to_build_it(tmp_path: Path) -> None:
    made = module().eval()
    (tmp_path / "run" / "model").mkdir(parents=True)
    file = tmp_path / "run" / "model" / "model.safetensors"
    save_file({key: value.contiguous() for key, value in made.state_dict().items()}, file)
    manifest = Manifest(
        name="segmentation/trial", run_id="1",
        module={"_target_": "primum.segmentation.self_distillation.DenseSelfDistillation",
                "network": VIT},
        weights={"directory": "model", "format": "module", "files": {file.name: sha256(file)}},
        card={"title": "a trial"},
    )  # fmt: skip
    write_manifest(manifest, tmp_path / "run")
    written = release(tmp_path / "run", tmp_path / "released")
    assert written == tmp_path / "released" / "segmentation" / "trial.yaml"
    network = resolve(written).build_module().float().eval()
    pixels = torch.rand(1, 3, 40, 64)
    with torch.no_grad():
        found, expected = network(pixels), made.teacher.network(pixels)
    assert found.shape == (1, 40, 32)
    assert np.abs((found - expected).numpy()).max() < 0.02  # half precision
    manifest.module = {"_target_": "torch.nn.Identity"}
    write_manifest(manifest, tmp_path / "run")
    with pytest.raises(UserError):
        release(tmp_path / "run", tmp_path / "released")
