"""`primum segment`: right masks of real files, nothing done twice, one bad file stops nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tests.segmentation.photos import NAME, THRESHOLDS, bad_pictures, mosaic, odd_pictures, weights

from primum.cli import main
from primum.jobs.index import read_index
from primum.segmentation.jobs.index import Entry


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    file = weights(tmp_path_factory.mktemp("weights"))
    return [
        "--backbone",
        NAME,
        "--weights",
        str(file),
        "--size",
        "320",
        "--thresholds",
        *THRESHOLDS,
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    for number in range(5):
        Image.fromarray(mosaic(48, 64, number)).save(made / f"{number}.png")
    return made


def tree(folder: Path) -> dict[str, bytes]:
    """What a folder holds, but for the index, which tells of seconds."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith("index")
    }


@pytest.mark.seconds
def test_any_picture_is_right_or_told_and_masks_are_the_label_maps(
    backbone: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    sound = odd_pictures(photos)
    bad = bad_pictures(photos)
    assert main(["segment", str(photos), "-o", str(out), *backbone]) == 1
    said = capsys.readouterr().out
    first = said.splitlines()[0]
    assert NAME in first and "device" in first and "preset recommended" in first
    assert str(out / "gallery.html") in said.splitlines()[-1]
    entries = {entry.name: entry for entry in read_index(out, Entry)}
    assert {name for name, entry in entries.items() if entry.status == "failed"} == set(bad)
    assert all(name in said and entries[name].reason for name in bad)
    assert entries["pixel.png"].status == "uniform"

    coco = COCO(out / "annotations.json")
    images = {row["file_name"]: row for row in coco.dataset["images"]}
    assert {name: (row["height"], row["width"]) for name, row in images.items()} == sound
    checked = 0
    for name, row in images.items():
        maps = [np.array(Image.open(out / "labels" / f"level-{level}" / f"{name}.png"))
                for level in (1, 2, 3)]  # fmt: skip
        for fine, coarse in pairwise(maps):  # nested
            pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
            assert len(pairs[0]) == len(np.unique(fine))
        for one in coco.imgToAnns[row["id"]]:
            mask = coco.annToMask(one).astype(bool)
            assert (mask == (maps[one["level"] - 1] == one["label"])).all()
            assert one["area"] == mask.sum() > 0 and 0 <= one["score"] <= 1
            assert one["bbox"] == coco_mask.toBbox(one["segmentation"]).tolist()
            if one["parent"] is not None:
                parent = coco.anns[one["parent"]]
                assert parent["image_id"] == row["id"] and parent["level"] > one["level"]
                assert not (mask & ~coco.annToMask(parent).astype(bool)).any()
            checked += 1
    assert checked > 20


def test_the_gallery_is_one_page_that_no_file_name_can_break(
    backbone: list[str], tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    name = "</script><img src=x onerror=alert(1)>.png".replace("/", "\u2215")
    Image.fromarray(mosaic(30, 40)).save(photos / name)
    assert main(["segment", str(photos), "-o", str(out), *backbone]) == 0
    page = (out / "gallery.html").read_text()
    assert "<img" not in page and "http" not in page.replace("http-equiv", "")
    start = page.index('id="card-0">') + len('id="card-0">')
    card = json.loads(page[start : page.index("</script>", start)])
    assert card["name"] == name and len(card["levels"]) == 3


def test_tuned_settings_are_what_masks_are_made_with(
    backbone: list[str], folder: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "mine.yaml", tmp_path / "out"
    named = backbone[: backbone.index("--thresholds")]
    regions = ["--regions", "6", "3"]
    assert main(["segment", "tune", str(folder), *named, "-o", str(file), *regions]) == 0
    assert main(["segment", str(folder), "-o", str(out), "--settings", str(file)]) == 0
    tuned = yaml.safe_load(file.read_text())
    kept = yaml.safe_load((out / "settings.yaml").read_text())
    options = kept["identity"]["options"]
    assert options["balance"] == tuned["balance"] > 0
    assert list(options["thresholds"]) == tuned["thresholds"]


@pytest.mark.seconds
def test_a_second_run_does_nothing_and_other_settings_are_refused(
    backbone: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    command = ["segment", str(folder), "-o", str(out), *backbone]
    assert main(command) == 0
    index = out / "index.jsonl"
    before, lines = tree(out), index.read_bytes()
    index.write_bytes(lines + b'{"torn')
    assert main(command) == 0
    assert index.read_bytes() == lines and tree(out) == before
    Image.fromarray(mosaic(48, 64, 9)).save(folder / "2.png")  # another picture under this name
    assert main(command) == 0
    assert len(index.read_bytes().splitlines()) == 6 and tree(out) != before
    assert main([*command, "--no-snap"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.seconds
def test_shards_together_are_one_run(backbone: list[str], folder: Path, tmp_path: Path) -> None:
    common = ["segment", str(folder), *backbone]
    assert main([*common, "-o", str(tmp_path / "whole")]) == 0
    for number in ("1/2", "2/2"):  # in one folder
        assert main([*common, "-o", str(tmp_path / "same"), "--shard", number]) == 0
        part = tmp_path / f"part{number[0]}"  # each on a machine of its own
        assert main([*common, "-o", str(part), "--shard", number]) == 0
    assert not (tmp_path / "same" / "annotations.json").exists()
    assert main(["segment", "merge", str(tmp_path / "same")]) == 0
    parts = [str(tmp_path / f"part{number}") for number in (1, 2)]
    assert main(["segment", "merge", *parts, "-o", str(tmp_path / "joined")]) == 0
    whole = tree(tmp_path / "whole")
    assert tree(tmp_path / "same") == whole and tree(tmp_path / "joined") == whole


@pytest.mark.seconds
def test_parts_that_do_not_belong_together_are_refused(
    backbone: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, more in (("a", []), ("b", ["--no-snap"])):
        command = ["segment", str(folder), "-o", str(tmp_path / name), *backbone, *more]
        assert main([*command, "--shard", "1/2" if name == "a" else "2/2"]) == 0
    parts = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["segment", "merge", *parts, "-o", str(tmp_path / "c")]) == 2
    assert main(["segment", "merge", parts[0], parts[0], "-o", str(tmp_path / "c")]) == 2
    assert main(["segment", "merge", *parts]) == 2
    assert main(["segment", "merge", str(folder)]) == 2
    said = capsys.readouterr().err
    for words in ("different backbones", "in two parts", "need a new one", "no output"):
        assert words in said


@pytest.mark.process
def test_a_killed_run_goes_on_and_gives_what_one_run_gives(
    backbone: list[str], folder: Path, tmp_path: Path
) -> None:
    for number in range(5, 30):
        Image.fromarray(mosaic(240, 320, number)).save(folder / f"{number}.png")
    out = tmp_path / "out"
    words = ["segment", str(folder), "-o", str(out), *backbone]
    command = [sys.executable, "-m", "primum.cli", *words]
    running = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    index = out / "index.jsonl"
    while running.poll() is None and (not index.exists() or index.read_bytes().count(b"\n") < 3):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = index.read_bytes()
    assert 3 <= done.count(b"\n") < 30, "it was not killed in the middle"
    assert main(words) == 0
    assert index.read_bytes().startswith(done[: done.rfind(b"\n") + 1])
    assert index.read_bytes().count(b"\n") == 30
    assert main(["segment", str(folder), "-o", str(tmp_path / "whole"), *backbone]) == 0
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.process
def test_two_processes_do_what_one_does(
    backbone: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    common = ["segment", str(folder), *backbone, "--device", "cpu"]
    assert main([*common, "-o", str(tmp_path / "one")]) == 0
    assert main([*common, "-o", str(tmp_path / "two"), "--devices", "2"]) == 0
    assert "5 pictures (5 ok)" in capsys.readouterr().out
    one, two = (json.loads((tmp_path / name / "annotations.json").read_text())
                for name in ("one", "two"))  # fmt: skip
    assert one == two
    assert len(list((tmp_path / "two").glob("index-*-of-002.jsonl"))) == 2


def test_mistakes_are_told(
    backbone: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = ["-o", str(tmp_path / "out")]
    (tmp_path / "void").mkdir()
    (tmp_path / "other.yaml").write_text("thresholds: [1]\n")
    for words, said in (
        ([str(folder), *out], "none is chosen silently"),
        ([str(tmp_path / "nowhere"), *out, *backbone], "no such file"),
        ([str(tmp_path / "void"), *out, *backbone], "no pictures"),
        ([str(folder), *out, *backbone, "--shard", "3/2"], "no shard"),
        ([str(folder), *out, *backbone, "--min-area", "0"], "at least 1"),
        ([str(folder), *out, *backbone, "--settings", str(tmp_path / "other.yaml")], "no settings"),
        ([str(folder), *out, "--backbone", "vit_of_nobody"], "cannot be had"),
    ):
        assert main(["segment", *words]) == 2, words
        assert said in capsys.readouterr().err, words


@pytest.mark.slow
def test_a_photograph_of_twelve_million_pixels_stays_below_four_gigabytes(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    board = dice.integers(0, 255, (45, 60, 3)).astype(np.uint8)
    picture = Image.fromarray(board).resize((4000, 3000), Image.Resampling.NEAREST)
    picture.save(tmp_path / "large.png")
    script = f"""
import resource
from primum.segmentation.backbones import Backbone
from primum.segmentation.uniap import UniAP
import torch
torch.manual_seed(0)
made = Backbone({NAME!r}, "random", size=960)
found = UniAP("recommended", made, thresholds=(0.98, 0.95, 0.9, 0.8, 0.5), device="cpu",
              output_mode="coco_rle",
              options={{"min_area": 1, "max_instances": 4096, "balance": 0.0}})
masks = found({str(tmp_path / "large.png")!r})
print(len(masks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    masks, kilobytes = map(int, done.stdout.split())
    assert masks >= 2000 and kilobytes < 4e6, done.stdout
