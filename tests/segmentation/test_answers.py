"""A trained module sits every benchmark of the family: masks, partitions, labels, segments."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.benchmarks import pictures
from tests.segmentation.run import module, network

from primum.benchmarks.benchmark import Benchmark
from primum.benchmarks.boundaries_bsds import BoundariesBsds
from primum.benchmarks.candidates import Candidate
from primum.benchmarks.class_agnostic import ClassAgnostic
from primum.benchmarks.panoptic import Panoptic
from primum.benchmarks.pseudo_masks import PseudoMasks
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.unsupervised_semantic import UnsupervisedSemantic
from primum.segmentation.agg_sample import AggSampleModule
from primum.segmentation.pseudo_masks import UniapProposals
from primum.segmentation.segmenter import Masks, labelled


def agg_sample() -> AggSampleModule:
    build = functools.partial(torch.optim.SGD, lr=0.1)
    return AggSampleModule(network(), UniapProposals("author_code", {}, 9, 0, centre=True), build,
                           side=64)  # fmt: skip


def benchmarks(folder: Path) -> dict[str, Benchmark]:
    """Each benchmark on three pictures."""
    truth = str(pictures.coco(folder))
    panoptic, maps = pictures.panoptic(folder), pictures.label_maps(folder / "maps", 3)
    shown = folder / "shown"
    for number in range(4):
        pictures.photograph(pictures.regions(number), shown / f"{number}.jpg")
    photographs = str(folder / "images")
    return {
        "class_agnostic": ClassAgnostic(truth, images=photographs, recalls=(100,), draws=5),
        "pseudo_masks": PseudoMasks(truth, images=photographs),
        "boundaries_bsds": BoundariesBsds(str(pictures.bsds(folder / "bsds")), boundaries=False),
        "unsupervised_semantic": UnsupervisedSemantic(
            str(maps), 16, classes=4, images=str(shown), draws=5
        ),
        "panoptic": Panoptic(str(panoptic), images=str(shown), mapping="many_to_one"),
    }


@pytest.mark.parametrize(
    ("make", "main"),
    [
        (
            module,
            {"class_agnostic": "ar_100", "pseudo_masks": "seconds", "boundaries_bsds": "ods",
             "unsupervised_semantic": "pixel_accuracy_many_to_one", "panoptic": "pq"},
        ),
        (agg_sample, {"unsupervised_semantic": "pixel_accuracy_many_to_one", "panoptic": "pq"}),
    ],
)  # fmt: skip
@pytest.mark.seconds
def test_a_module_sits_the_benchmarks(make: Any, main: dict[str, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = make()
    for name, benchmark in benchmarks(tmp_path).items():
        if name in main:
            candidate = Candidate("ours", "module", "f" * 64, made)
            found = run_benchmark(benchmark, candidate, output=tmp_path / "out", quiet=True)
            score = found.scores[main[name]]
            assert score.value is not None, name
            if name in ("unsupervised_semantic", "boundaries_bsds"):
                assert score.value > 0.2, (name, score)  # something was said of most pixels


def masks() -> Masks:
    """A large weak instance over a small strong one, and a semantic mask of everything."""
    shapes = torch.zeros(3, 4, 6, dtype=torch.bool)
    shapes[0, :2, :3] = True
    shapes[1, :, :4] = True
    shapes[2] = True
    labels = torch.zeros(4, 6, dtype=torch.long)
    labels[:, 5] = 3
    return Masks(
        shapes, torch.tensor([0.9, 0.6, 0.55]), torch.tensor([False, False, True]),
        torch.tensor([7, 5, 0]), labels,
    )  # fmt: skip


def test_each_pixel_has_one_segment_the_best_instance_first() -> None:
    segments, categories = masks().panoptic(16)
    assert categories == {1: 7, 2: 5, 3: 16 + 0, 4: 16 + 3}
    expected = np.array([[1, 1, 1, 2, 3, 4]] * 2 + [[2, 2, 2, 2, 3, 4]] * 2)
    assert np.array_equal(segments, expected)
    strict, named = masks().panoptic(16, least_score=0.7)
    assert sorted(named.values()) == [7, 16, 19] and (strict[2:, :4] == 2).all()


def test_a_sweep_lays_small_masks_on_large_ones() -> None:
    sweep = masks().partitions((1, 3))
    assert [len(np.unique(one)) for one in sweep] == [2, 3]
    assert sweep[1, 0, 0] == 1 and sweep[1, 3, 0] == 2 and sweep[1, 3, 5] == 3


def test_a_pixel_goes_to_the_prototype_with_the_largest_claim_of_all_its_queries() -> None:
    claims = torch.tensor([[[0.5, 0.1]], [[0.3, 0.1]], [[0.3, 0.15]]])
    found = labelled(claims, torch.tensor([4, 9, 9]), (1, 2))
    assert found.tolist() == [[9, 9]]
    assert labelled(claims[:0], torch.zeros(0, dtype=torch.long), (2, 3)).eq(-1).all()


def test_labels_cover_a_real_photographs_size() -> None:
    image = torch.from_numpy(np.asarray(Image.new("RGB", (70, 50), "red"))).permute(2, 0, 1)
    found = module().segment(image.contiguous())
    assert found.labels.shape == (50, 70) and int(found.labels.min()) >= 0
    assert int(found.labels.max()) < 16
