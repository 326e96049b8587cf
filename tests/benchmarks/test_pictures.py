"""Segmentation benchmarks: truth scores 100, silence counts, anybody's files sit them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.benchmarks import pictures

from primum.benchmarks.boundaries_bsds import BoundariesBsds
from primum.benchmarks.candidates import Candidate, resolve_candidate
from primum.benchmarks.class_agnostic import ClassAgnostic
from primum.benchmarks.images import ImageBenchmark
from primum.benchmarks.panoptic import Panoptic
from primum.benchmarks.pseudo_masks import PseudoMasks
from primum.benchmarks.results import read_parts
from primum.benchmarks.run import Evaluation, run_benchmark
from primum.benchmarks.segments import Segments, pooled_masks
from primum.benchmarks.unsupervised_semantic import UnsupervisedSemantic, centred
from primum.errors import UserError
from primum.segmentation.data.subsets import Subset

DATA = Path(os.environ.get("PRIMUM_DATA", Path(__file__).parents[3] / "shared" / "data"))


def made_class_agnostic(folder: Path) -> ImageBenchmark:
    return ClassAgnostic(str(pictures.coco(folder)), draws=5)


def made_pseudo_masks(folder: Path) -> ImageBenchmark:
    return PseudoMasks(str(pictures.coco(folder)))


def made_panoptic(folder: Path) -> ImageBenchmark:
    return Panoptic(str(pictures.panoptic(folder)))


def made_semantic(folder: Path) -> ImageBenchmark:
    return UnsupervisedSemantic(str(pictures.label_maps(folder / "truth")), 4, classes=4, draws=5)


def made_bsds(folder: Path) -> ImageBenchmark:
    return BoundariesBsds(str(pictures.bsds(folder)))


ALL = (made_class_agnostic, made_pseudo_masks, made_panoptic, made_semantic, made_bsds)


def sit(benchmark: ImageBenchmark, output: Path, *predictions: Path | str) -> Evaluation:
    given = [str(one) for one in predictions]
    candidate = resolve_candidate(predictions=given, read=benchmark.read_predictions)
    return run_benchmark(benchmark, candidate, output=output, quiet=True)


@pytest.mark.parametrize("make", ALL)
def test_truth_as_prediction_scores_one_hundred(
    make: Callable[[Path], ImageBenchmark], tmp_path: Path
) -> None:
    found = sit(make(tmp_path), tmp_path / "out", "ground_truth")
    scored = {key: one for key, one in found.scores.items() if one.value is not None}
    # annotators of BSDS disagree, so no one scale is right for all of them
    imperfect = {"ods", "ois", "boundary_ods", "boundary_ois"} if make is made_bsds else set()
    # and this set has nothing as large as COCO's medium
    assert set(scored) - imperfect
    for key, score in scored.items():
        if key == "ar_1":  # one detection for three regions
            assert score.value == pytest.approx(1 / 3)
        elif key not in imperfect:
            assert score.value == 1.0, (key, score)
        assert score.n == len(found.report["cases"]) or make is made_semantic
        assert score.low is not None and score.protocol


def test_a_picture_without_predictions_counts(tmp_path: Path) -> None:
    truth = pictures.coco(tmp_path)
    most = pictures.as_results(truth, tmp_path / "some.json", (1, 2))
    every = pictures.as_results(truth, tmp_path / "all.json")
    benchmark = lambda: ClassAgnostic(str(truth), recalls=(10,), draws=5)  # noqa: E731
    whole = sit(benchmark(), tmp_path / "out", every)
    less = sit(benchmark(), tmp_path / "out", most)
    assert whole.scores["ar_10"].value == 1.0 and whole.scores["ar_10"].n == 4
    assert less.scores["ar_10"].value == pytest.approx(2 / 3) and less.scores["ar_10"].n == 4
    row = less.report["sections"][0]["rows"][0]
    assert row == [4, 2, 6, 9], "pictures, those without prediction, predictions, true regions"
    assert whole.folder != less.folder
    overlap = sit(PseudoMasks(str(truth)), tmp_path / "out", most)
    assert overlap.scores["miou_10"].value == pytest.approx(2 / 3)
    assert overlap.scores["seconds"].value is None


def test_boxes_polygons_and_pseudo_mask_files_are_read(tmp_path: Path) -> None:
    truth = pictures.coco(tmp_path)
    content = json.loads(truth.read_text())
    for row in content["annotations"]:
        x, y, w, h = row["bbox"]
        row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        row["score"] = 0.5
        row["image_id"] += 100
    for image in content["images"]:
        image["id"] += 100  # another numbering: pictures are found by their file names
    (tmp_path / "pseudo.json").write_text(json.dumps(content))
    found = sit(ClassAgnostic(str(truth), draws=5), tmp_path / "out", tmp_path / "pseudo.json")
    assert found.scores["ar_100"].value == 1.0
    boxes = [
        {key: row[key] for key in ("image_id", "bbox")} | {"score": 1}
        for row in json.loads(truth.read_text())["annotations"]
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    found = sit(ClassAgnostic(str(truth), kind="bbox", draws=5), tmp_path / "out",
                tmp_path / "boxes.json")  # fmt: skip
    assert found.scores["ap"].value == 1.0
    with pytest.raises(UserError, match="no segmentation"):
        sit(ClassAgnostic(str(truth)), tmp_path / "out", tmp_path / "boxes.json")


def test_sa1b_files_are_read(tmp_path: Path) -> None:
    truth = json.loads(pictures.coco(tmp_path).read_text())
    folder = tmp_path / "sa1b"
    folder.mkdir()
    for image in truth["images"]:
        rows = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        told = {"image_id": image["id"]} | {k: image[k] for k in ("file_name", "height", "width")}
        (folder / f"sa_{image['id']}.json").write_text(
            json.dumps({"image": told, "annotations": rows})
        )
    found = sit(ClassAgnostic(str(folder), draws=5), tmp_path / "out", "ground_truth")
    assert found.scores["ar_10"].value == 1.0 and found.scores["ar_10"].n == 4


def test_a_subset_of_sa1b_is_chosen_by_name_and_nothing_else_is_read(tmp_path: Path) -> None:
    truth = json.loads(pictures.coco(tmp_path, 6).read_text())
    folder = tmp_path / "sa1b"
    folder.mkdir()
    names = [f"sa_{image['id']}.jpg" for image in truth["images"]]
    kept = {names[i] for i in Subset(2, last=True).of(names)}
    for image, name in zip(truth["images"], names, strict=True):
        told = {"image_id": image["id"], "file_name": name, "height": 24, "width": 31}
        rows = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        content = json.dumps({"image": told, "annotations": rows}) if name in kept else "{"
        (folder / name).with_suffix(".json").write_text(content)
    cases = ClassAgnostic(str(folder), subset=Subset(2, last=True)).load_cases()
    assert {case.prompt for case in cases} == kept
    assert not kept & {names[i] for i in Subset(4).of(names)}, "held out from training subsets"


def test_lvis_files_tell_an_address_instead_of_a_name(tmp_path: Path) -> None:
    truth = pictures.coco(tmp_path)
    content = json.loads(truth.read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://images/train2017/{image.pop('file_name')}"
        image |= {"neg_category_ids": [7], "not_exhaustive_category_ids": []}
    for row in content["annotations"]:
        del row["iscrowd"]
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    benchmark = ClassAgnostic(
        str(tmp_path / "lvis.json"), images=str(tmp_path / "images"), recalls=(300,), draws=5
    )
    assert benchmark.load_cases()[0].files["image"].name == "001.png"
    found = sit(benchmark, tmp_path / "out", "ground_truth")
    assert found.scores["ar_300"].value == 1.0 and found.scores["ar_300"].n == 4


def test_predictions_of_other_pictures_are_refused(tmp_path: Path) -> None:
    truth = pictures.coco(tmp_path)
    (tmp_path / "wrong.json").write_text(json.dumps([
        {"image_id": 999, "bbox": [0, 0, 1, 1], "score": 1}
    ]))  # fmt: skip
    with pytest.raises(UserError, match="Not one of the 4 pictures"):
        sit(ClassAgnostic(str(truth)), tmp_path / "out", tmp_path / "wrong.json")
    (tmp_path / "bad.json").write_text('[{"score": 1}]')
    with pytest.raises(UserError, match="image_id") as caught:
        sit(ClassAgnostic(str(truth)), tmp_path / "out", tmp_path / "bad.json")
    assert caught.value.row == 1
    with pytest.raises(UserError, match="no such file"):
        sit(ClassAgnostic(str(truth)), tmp_path / "out", tmp_path / "absent.json")
    with pytest.raises(UserError, match="no label maps"):
        (tmp_path / "empty").mkdir()
        sit(ClassAgnostic(str(truth)), tmp_path / "out", tmp_path / "empty")


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="picture of"):
        Segments.of([{"segmentation": np.zeros((3, 4), bool)}], (4, 4))
    with pytest.raises(UserError, match="no answer"):
        Segments.of("a mask", (4, 4))
    with pytest.raises(UserError, match="shape"):
        Segments.of({"labels": np.zeros((3, 3), int)}, (4, 4))
    sam = [{"segmentation": np.eye(4) > 0, "predicted_iou": s} for s in (0.1, 0.8)]
    assert [mask["score"] for mask in Segments.of(sam, (4, 4)).masks] == [0.8, 0.1]


# semantic and panoptic


def test_clusters_are_scored_under_each_mapping_by_its_name(tmp_path: Path) -> None:
    truth = pictures.label_maps(tmp_path / "truth")
    made = pictures.label_maps(tmp_path / "made", shift=1)  # the same regions, other names
    train = pictures.label_maps(tmp_path / "train")
    benchmark = UnsupervisedSemantic(
        str(truth), 4, classes=4, fit=str(train), mappings=("hungarian", "identity"), draws=5
    )
    found = sit(benchmark, tmp_path / "out", made)
    assert found.scores["miou_hungarian"].value == 1.0
    assert found.scores["miou_identity"].value == 0.0
    # pictures of train carry the same names as those of val: fitted on their predictions too
    assert "fitted on train" in found.scores["miou_hungarian_train"].name
    assert found.scores["miou_hungarian"].n == 4


def test_a_missing_label_map_is_wrong_everywhere(tmp_path: Path) -> None:
    truth = pictures.label_maps(tmp_path / "truth")
    made = pictures.label_maps(tmp_path / "made")
    (made / "0.png").unlink()
    found = sit(UnsupervisedSemantic(str(truth), 4, classes=4, draws=5), tmp_path / "out", made)
    accuracy = found.scores["pixel_accuracy_hungarian"]
    assert accuracy.value == pytest.approx(0.75) and accuracy.n == 4
    assert found.report["sections"][0]["rows"] == [[4, 1]]


def test_the_centre_is_what_a_nearest_resize_gives() -> None:
    labels = np.arange(12 * 20).reshape(12, 20)
    half = centred(labels, 6)
    assert half.shape == (6, 6)
    assert half.tolist() == labels[::2, 4:16:2].tolist()
    assert centred(labels, None) is labels


def test_clusters_of_segments_are_mapped(tmp_path: Path) -> None:
    truth = pictures.panoptic(tmp_path)
    content = json.loads(truth.read_text())
    for row in content["annotations"]:
        for segment in row["segments_info"]:
            segment["category_id"] += 70
    (tmp_path / "clusters.json").write_text(json.dumps(content))
    (tmp_path / "clusters").symlink_to(tmp_path / "panoptic")
    given = sit(Panoptic(str(truth)), tmp_path / "out", tmp_path / "clusters.json")
    assert given.scores["pq"].value == 0.0
    for mapping in ("hungarian", "many_to_one"):
        found = sit(Panoptic(str(truth), mapping=mapping), tmp_path / "out",
                    tmp_path / "clusters.json")  # fmt: skip
        assert found.scores["pq"].value == 1.0 and mapping in found.scores["pq"].protocol


@pytest.mark.skipif(not (DATA / "panoptic_sample").is_dir(), reason="the sample is not here")
@pytest.mark.seconds
def test_cocos_own_panoptic_example(tmp_path: Path) -> None:
    sample = DATA / "panoptic_sample"
    content = json.loads((sample / "panoptic_examples.json").read_text())
    content.setdefault(
        "categories", json.loads((sample / "panoptic_coco_categories.json").read_text())
    )
    (tmp_path / "truth.json").write_text(json.dumps(content))
    benchmark = Panoptic(str(tmp_path / "truth.json"), maps=str(sample / "panoptic_examples"))
    found = sit(benchmark, tmp_path / "out", "ground_truth")
    assert found.scores["pq"].value == found.scores["pq_stuff"].value == 1.0
    assert found.scores["pq"].n == 2


# the harness


class Halves:
    """Splits each picture down the middle; fails on one picture until it is told not to."""

    def __init__(self, fails_on: str | None = None) -> None:
        self.fails_on, self.seen = fails_on, []  # type: ignore[var-annotated]

    def answer(self, cases, settings):  # type: ignore[no-untyped-def]
        for case in cases:
            if case.id == self.fails_on:
                raise RuntimeError("power cut")
            self.seen.append(case.id)
            height, width = case.reference["size"]
            labels = (np.arange(width)[None] >= width // 2).repeat(height, 0).astype(int)
            yield {"partitions": labels[None]}


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    data = str(pictures.bsds(tmp_path / "bsds", 4))

    def run(subject: Halves) -> Evaluation:
        candidate = Candidate("halves", "object", "1", subject)
        benchmark = BoundariesBsds(data, boundaries=False)
        return run_benchmark(benchmark, candidate, output=tmp_path / "out", quiet=True)

    with pytest.raises(RuntimeError, match="power cut"):
        run(Halves(fails_on="2"))
    again = Halves()
    found = run(again)
    assert again.seen == ["2", "3"] and found.report["timing"]["cases_kept"] == 2
    whole = run(Halves())
    assert whole.scores["ods"] == found.scores["ods"] and whole.scores["ods"].n == 4
    assert 0 < found.scores["miou_10"].value < 1


def test_sweeps_of_different_lengths_are_refused(tmp_path: Path) -> None:
    data = str(pictures.bsds(tmp_path / "bsds", 2))
    made = tmp_path / "made"
    made.mkdir()
    for number in range(2):
        np.save(made / f"{number}.npy", np.zeros((1 + number, 24, 31), np.int64))
    with pytest.raises(UserError, match="sweeps of 1, 2 scales"):
        sit(BoundariesBsds(data, boundaries=False), tmp_path / "out", made)


def test_budgets_by_histogram_equal_budgets_by_masks(tmp_path: Path) -> None:
    """The fast path over label histograms, against masks coded one by one."""
    data = str(pictures.bsds(tmp_path / "bsds", 3))
    for rank in ("area", "persistence", "extent", "area_apart", "extent_apart"):
        swept, masked = tmp_path / "sweep", tmp_path / f"{rank}.json"
        swept.mkdir(exist_ok=True)
        rows = []
        for number in range(3):
            stack = np.stack([pictures.regions(50 + number), pictures.regions(number) // 2,
                              np.zeros((24, 31), np.int64)])  # fmt: skip
            np.save(swept / f"{number}.npy", stack)
            for mask in pooled_masks(stack, rank=rank):
                told = mask["segmentation"] | {"counts": mask["segmentation"]["counts"].decode()}
                rows.append({"image_id": str(number), "segmentation": told, "score": mask["score"]})
        masked.write_text(json.dumps(rows))
        options = {"boundaries": False, "budgets": (1, 3, 50)}
        one = sit(BoundariesBsds(data, rank=rank, **options), tmp_path / "out", swept)
        other = sit(BoundariesBsds(data, **options), tmp_path / "out", masked)
        for key in ("miou_1", "miou_3", "miou_50"):
            assert one.scores[key].value == pytest.approx(other.scores[key].value)


@pytest.mark.process
def test_two_processes_take_each_picture_once(tmp_path: Path) -> None:
    data, output = pictures.bsds(tmp_path / "bsds", 5), tmp_path / "out"
    words = [
        sys.executable, "evaluate.py", "benchmark=boundaries_bsds", "method=slic",
        "method.counts=[9,4,2]", f"benchmark.data={data}", "benchmark.boundaries=false",
        "trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=",
    ]  # fmt: skip
    found = {}
    for devices in ("2", "1"):
        command = [*words[:-1], words[-1] + devices, f"paths.outputs={output}/{devices}"]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        report = next((output / devices).rglob("report.json"))
        parts = sorted((report.parent / "results").glob("part-*.jsonl"))
        assert len(parts) == int(devices)
        lines = sum(len(part.read_text().splitlines()) for part in parts)
        assert lines == 5 == len(read_parts(report.parent / "results"))
        found[devices] = json.loads(report.read_text())["scores"]
    assert found["1"] == found["2"]
