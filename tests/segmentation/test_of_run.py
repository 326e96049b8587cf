"""A finished run sits a benchmark, and so does UniAP on its features, old or new, or colours."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.segmentation.run import SIDE, module
from tests.segmentation.test_s2uniseg import written

from primum.errors import UserError
from primum.segmentation.data.scenes import Scenes, write_coco
from primum.segmentation.peers import of_run


class Resolved:
    """A run that has been found: it rebuilds the module, with other weights than a fresh one."""

    fingerprint = "f" * 64

    def __init__(self, _: str) -> None:
        self.made = module()
        with torch.no_grad():
            for weight in self.made.teacher.parameters():
                weight.add_(
                    0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
                )

    def build_module(self) -> Any:
        return self.made


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_run, "resolve", Resolved)


def test_each_kind_of_feature_gives_nested_partitions_of_its_own() -> None:
    image = Scenes(1, 3, SIDE).scene(0).image
    seen = {}
    for features in of_run.FEATURES:
        levels = of_run.UniapOfRun("a run", features).partitions(image)
        assert levels.shape == (2, SIDE, SIDE)
        pairs = np.unique(np.stack([levels[0].ravel(), levels[1].ravel()]), axis=1)
        assert len(pairs[0]) == len(np.unique(pairs[0]))  # each fine region lies in one coarse one
        seen[features] = levels
    assert not np.array_equal(seen["final"], seen["untrained"])
    finer = of_run.UniapOfRun("a run", "colours", finer=2).partitions(image)
    assert len(np.unique(finer[0])) > len(np.unique(seen["colours"][0]))


def test_single_tokens_never_take_the_place_of_regions(tmp_path: Path) -> None:
    """They persist at every level, so an order by persistence alone would begin with them."""
    written(tmp_path, "compressed", 1)
    case = SimpleNamespace(files={"image": tmp_path / "0.png"})
    (answer,) = of_run.UniapOfRun("a run", "colours").answer([case], None)
    masks = [mask["segmentation"] for mask in answer["masks"]]
    assert [mask["score"] for mask in answer["masks"]] == sorted(
        (mask["score"] for mask in answer["masks"]), reverse=True
    )
    small = [bool(mask.sum() < 4 * 8 * 8) for mask in masks]
    assert small == sorted(small) and True in small and False in small
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    every = {(level == label).tobytes() for level in answer["partitions"] for label in level.flat}
    assert every == {mask.tobytes() for mask in masks}


def test_untrained_is_the_networks_beginning_whatever_was_learned() -> None:
    network = module().student
    torch.manual_seed(0)
    fresh = network.fresh_vit()
    tokens = of_run.UniapOfRun("a run", "untrained", seed=0).module.segmenting.encoder.vit
    for name, value in fresh.state_dict().items():
        assert torch.equal(tokens.state_dict()[name], value), name


def test_settings_name_the_run_by_its_fingerprint() -> None:
    told = of_run.UniapOfRun("a run", thresholds=[0.9, 0.1]).identity()["settings"]
    assert told["run"] == Resolved.fingerprint and told["thresholds"] == (0.9, 0.1)
    with pytest.raises(UserError, match="guessed"):
        of_run.UniapOfRun("a run", "guessed")


def test_the_module_answers_with_masks_best_first(tmp_path: Path) -> None:
    written(tmp_path, "compressed", 2)
    cases = [SimpleNamespace(files={"image": tmp_path / f"{i}.png"}) for i in range(2)]
    answers = module().answer(cases, None)
    assert len(answers) == 2
    for masks in (answer["masks"] for answer in answers):
        scores = [mask["predicted_iou"] for mask in masks]
        assert scores == sorted(scores, reverse=True)
        assert all(mask["segmentation"].shape == (SIDE, SIDE) for mask in masks)


def test_scenes_become_a_coco_file_with_their_exact_masks(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    scenes = Scenes(3, 8, SIDE)
    file = write_coco(scenes, tmp_path / "scenes")
    read = coco.COCO(str(file))
    for index in range(3):
        rows = read.loadAnns(read.getAnnIds(imgIds=[index]))
        masks = torch.from_numpy(np.stack([read.annToMask(row) for row in rows])).bool()
        assert torch.equal(masks, scenes.masks(index))
        assert (file.parent / f"{scenes.name(index)}.png").is_file()
