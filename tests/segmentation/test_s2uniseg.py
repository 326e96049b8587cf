"""The module in miniature: it learns, never looks at a ground truth, and shows what goes wrong."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tests.segmentation.run import SIDE, images, module, network

from primum.errors import UserError
from primum.segmentation.data.mask_files import MaskFile, PseudoMaskData
from primum.segmentation.data.scenes import Scenes
from primum.segmentation.data.views import Views
from primum.segmentation.from_pseudo_masks import PseudoMaskModule
from primum.segmentation.monitors import Health, MaskPictures
from primum.segmentation.segmenter import segment
from primum.training.progress import StepLoss
from primum.training.resume import ResumeState


def fitted(made: L.LightningModule, data: L.LightningDataModule, **options: Any) -> L.Trainer:
    torch.set_num_threads(1)
    callbacks = [ResumeState(), StepLoss(), *options.pop("callbacks", [])]
    trainer = L.Trainer(
        accelerator="cpu", callbacks=callbacks, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        **({"max_steps": 3, "logger": False} | options),
    )  # fmt: skip
    trainer.fit(made, data)
    return trainer


@pytest.mark.seconds
def test_masks_are_never_read_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("training looked at a ground truth")

    monkeypatch.setattr(Scenes, "masks", forbidden)
    with pytest.raises(AssertionError, match="looked"):  # the trap works
        Scenes(1).masks(0)
    made, data = module(), images()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    fitted(made, data)
    after = made.state_dict()
    assert not torch.equal(before["student.decoder.content"], after["student.decoder.content"])
    batch = next(iter(data.train_dataloader().from_position()), None) or data.dataset()[0]
    assert set(batch) <= {"image", "crops", "boxes", "flips", "square", "index", "loss_scale"}


@pytest.mark.parametrize("targets", ["centring", "sinkhorn"])
@pytest.mark.seconds
def test_the_loss_of_one_batch_falls(targets: str) -> None:
    made = module({"targets": targets, "rate": 3e-3})
    made.warmup, made.momentum = 1, 1.0  # a teacher that stands still asks the same each time
    trainer = fitted(made, images(), max_steps=25, overfit_batches=1)
    trace = [loss for _, loss in trainer.callbacks[1].trace]  # type: ignore[attr-defined]
    assert sum(trace[-3:]) < 0.9 * sum(trace[:3]), trace


@pytest.mark.seconds
def test_health_is_logged_and_collapse_alarms() -> None:
    health = Health(every=1, alarm=2.0, patience=2)  # an entropy above log K would be needed
    with pytest.warns(UserWarning, match="collapsing"):
        trainer = fitted(module(), images(), callbacks=[health], max_steps=3)
    logged = trainer.logged_metrics
    assert {"health/supernodes_1", "health/supernodes_2", "health/entropy"} <= logged.keys()
    assert logged["health/supernodes_1"] >= logged["health/supernodes_2"] >= 1
    assert 0 <= logged["health/entropy"] <= 1.0001
    with pytest.raises(UserError, match="collapsing"):
        fitted(module(), images(), callbacks=[Health(1, 2.0, 1, stop=True)])


def test_a_healthy_entropy_resets_the_alarm() -> None:
    health = Health(alarm=0.5, patience=2, stop=True)
    for entropy in (0.4, 0.6, 0.4, 0.7):
        health.judge(entropy)
    health.judge(0.4)
    with pytest.raises(UserError):
        health.judge(0.3)


@pytest.mark.seconds
def test_pictures_reach_the_logger_and_change_no_loss(tmp_path: Path) -> None:
    def losses(*callbacks: L.Callback) -> Any:
        L.seed_everything(3, verbose=False)
        logger = TensorBoardLogger(tmp_path, name=str(len(callbacks)))
        trainer = fitted(module(), images(), callbacks=list(callbacks), logger=logger)
        return trainer.callbacks[1].trace  # type: ignore[attr-defined]

    plain, shown = losses(), losses(MaskPictures(every=1, images=2))
    assert shown == plain
    assert any(b"masks" in file.read_bytes() for file in (tmp_path / "1").rglob("events*"))
    made = module()
    picture = MaskPictures().draw(made, torch.stack([Scenes(2, 0, SIDE).read(i) for i in (0, 1)]))
    assert picture.shape == (3, 2 * SIDE, 4 * SIDE) and picture.dtype == torch.uint8


@pytest.mark.parametrize("shape", [(50, 70), (1, 1), (300, 40)])
def test_any_image_is_segmented_at_its_own_size(shape: tuple[int, int]) -> None:
    found = module().segment(torch.randint(0, 256, (3, *shape), dtype=torch.uint8), limit=5)
    assert found.masks.shape[1:] == shape and len(found.masks) <= 5
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.masks.flatten(1).any(1).all()
    for row in found.as_dicts():
        x, y, width, height = row["bbox"]
        assert row["segmentation"][y : y + height, x : x + width].sum() == row["area"]


def test_teacher_or_student_answers() -> None:
    made = module()
    with torch.no_grad():
        for weight in made.student.parameters():
            weight.mul_(1.5)
    image = Scenes(1, 0, SIDE).read(0)
    teacher = made.segment(image)
    assert torch.equal(teacher.scores, segment(made.teacher.network, image, SIDE).scores)
    made.answers = "student"
    assert not torch.equal(made.segment(image).scores, teacher.scores)
    with pytest.raises(ValueError, match="answers"):
        type(made)(network(), made.proposals, torch.optim.SGD, answers="nobody")


# Masks from a file


def written(root: Path, form: str, count: int = 4) -> Path:
    """Scenes and their masks as a COCO file, as `primum segment` would write one."""
    coco = pytest.importorskip("pycocotools.mask")
    scenes, rows = Scenes(count, seed=2, side=SIDE), []
    for index in range(count):
        Image.fromarray(scenes.scene(index).image).save(root / f"{index}.png")
        for mask in scenes.masks(index).numpy():
            shape: Any = coco.encode(np.asfortranarray(mask, np.uint8))
            shape["counts"] = shape["counts"].decode()
            if form == "uncompressed":
                flat = mask.T.flatten().astype(int)
                runs = np.diff(np.flatnonzero(np.diff(np.r_[1 - flat[0], flat, 1 - flat[-1]])))
                shape["counts"] = ([] if flat[0] == 0 else [0]) + runs.tolist()
            rows.append({"image_id": index, "segmentation": shape, "area": int(mask.sum())})
    listed = [
        {"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in range(count)
    ]
    listed.append({"id": 99, "file_name": "without.png", "height": SIDE, "width": SIDE})
    file = root / f"{form}.json"
    file.write_text(json.dumps({"images": listed, "annotations": rows}))
    return file


@pytest.mark.parametrize("form", ["compressed", "uncompressed"])
def test_masks_of_a_coco_file_are_the_masks_written(tmp_path: Path, form: str) -> None:
    file = MaskFile(tmp_path, written(tmp_path, form))
    assert len(file) == 4  # an image without masks teaches nothing
    truth = Scenes(4, seed=2, side=SIDE)
    for index in range(4):
        largest_first = truth.masks(index).sum((1, 2)).argsort(descending=True, stable=True)
        assert torch.equal(file.masks(index, 99), truth.masks(index)[largest_first])
        assert len(file.masks(index, 2)) == 2


@pytest.mark.seconds
def test_a_decoder_learns_from_a_mask_file(tmp_path: Path) -> None:
    import functools

    file = written(tmp_path, "compressed")
    data = PseudoMaskData(
        functools.partial(MaskFile, tmp_path, file), Views(SIDE, SIDE, 2, (0.4, 1.0)), 4, limit=6,
        grid=32,
    )  # fmt: skip
    build = functools.partial(torch.optim.AdamW, lr=3e-3)
    made = PseudoMaskModule(network(), build, warmup=1, match_layers=True, side=SIDE)
    trainer = fitted(made, data, max_steps=25, overfit_batches=1)
    trace = [loss for _, loss in trainer.callbacks[1].trace]  # type: ignore[attr-defined]
    assert sum(trace[-3:]) < 0.8 * sum(trace[:3]), trace


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "no COCO file"),
        ("{", "no COCO file"),
        ('{"images": [], "annotations": [{"image_id": 3}]}', "image 3"),
        ('{"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}', "no mask"),
    ],
)
def test_a_wrong_mask_file_is_explained(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "masks.json").write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        MaskFile(tmp_path, tmp_path / "masks.json")
    assert "masks.json" in str(caught.value)
