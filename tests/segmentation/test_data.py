"""Any picture is read upright in RGB, any layout is found or explained, any subset is a rule."""

import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from primum.errors import UserError
from primum.segmentation.data import sources
from primum.segmentation.data.datamodule import ViewedImages
from primum.segmentation.data.images import read_image
from primum.segmentation.data.scenes import Scenes
from primum.segmentation.data.shards import INDEX, TarShards
from primum.segmentation.data.subsets import Listed, Subset
from primum.segmentation.data.views import Views
from primum.training.sampling import Draw, example_generator


def picture(width: int = 6, height: int = 4) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[0, 0] = (255, 0, 0)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


# Pictures


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    form = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    found = read_image(encoded(Image.new("RGB", (5, 3), "white").convert(mode), form))
    assert found.shape == (3, 3, 5) and found.dtype == torch.uint8
    assert (found >= 254).all()


def test_sixteen_bits_become_eight() -> None:
    deep = np.array([[0, 32896, 65535]], np.uint16)
    found = read_image(encoded(Image.fromarray(deep)))
    assert found.tolist() == [[[0, 128, 255]]] * 3


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: the stored left edge is the top
    found = read_image(encoded(picture(), "PNG", exif=exif))
    assert found.shape == (3, 6, 4)
    assert found[0, 0, 3] == 255


def test_transparency_is_laid_on_white() -> None:
    assert (read_image(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))) == 255).all()


def test_one_pixel_is_an_image() -> None:
    assert read_image(encoded(Image.new("RGB", (1, 1)))).shape == (3, 1, 1)
    views = Views(32, 32)(torch.zeros(3, 1, 1, dtype=torch.uint8), torch.Generator())
    assert views["crops"].shape == (2, 3, 32, 32)


@pytest.mark.parametrize("damage", [b"", b"not an image", encoded(picture(64, 64))[:60]])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "bad.png"
    file.write_bytes(damage)
    with pytest.raises(UserError, match=r"bad\.png"):
        read_image(file)


# Sources


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(root / name)
    return root


@pytest.mark.parametrize(
    ("build", "inside", "outside"),
    [
        (sources.folder, "a/b/c.png", "a/notes.txt"),
        (sources.imagenet, "train/n01/x.JPEG", "val/n01/x.JPEG"),
        (sources.coco, "train2017/000000000009.jpg", "val2017/000000000139.jpg"),
        (
            sources.cityscapes,
            "leftImg8bit/train/ulm/ulm_0_leftImg8bit.png",
            "gtFine/train/ulm/ulm_0_gtFine_labelIds.png",
        ),
        (sources.bsds500, "images/train/100.jpg", "images/test/200.jpg"),
    ],
)
def test_a_layout_is_found_and_its_absence_explained(
    tmp_path: Path, build: object, inside: str, outside: str
) -> None:
    if outside.endswith(".txt"):
        tmp_path.joinpath("a").mkdir()
        (tmp_path / outside).write_text("no image")
    else:
        folder_of(tmp_path, outside)
    with pytest.raises(UserError, match="expected"):
        build(tmp_path)  # type: ignore[operator]
    found = build(folder_of(tmp_path, inside))  # type: ignore[operator]
    assert [found.name(i) for i in range(len(found))] == [inside]
    assert found.read(0).shape == (3, 4, 6)


def test_uvo_reads_only_the_file_names_of_its_listing(tmp_path: Path) -> None:
    folder_of(tmp_path, "clip/1.png", "clip/2.png")
    listing = {"images": [{"file_name": "clip/2.png", "id": 1}], "annotations": ["unread"]}
    (tmp_path / "frames.json").write_text(json.dumps(listing))
    found = sources.uvo(tmp_path, "frames.json")
    assert len(found) == 1 and found.name(0) == "clip/2.png"
    (tmp_path / "frames.json").write_text(json.dumps({"images": [{"file_name": "gone.png"}]}))
    with pytest.raises(UserError, match=r"gone\.png"):
        sources.uvo(tmp_path, "frames.json")


def test_images_are_read_out_of_tar_shards_in_place(tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"sa_{shard:06d}.tar", "w") as archive:
            for name, content in (
                (f"./sa_{shard}.png", encoded(Image.new("RGB", (4, 4), (shard * 100, 0, 0)))),
                (f"./sa_{shard}.json", b'{"annotations": []}'),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    found = TarShards(tmp_path)
    assert [found.name(i) for i in range(len(found))] == ["sa_0.png", "sa_1.png"]
    assert found.read(1)[0, 0, 0] == 100
    assert (tmp_path / INDEX).is_file()
    again = TarShards(tmp_path, Subset(1, seed=3))
    assert len(again) == 1 and again.read(0).shape == (3, 4, 4)
    (tmp_path / "sa_000002.tar").write_bytes(b"half a download")
    with pytest.raises(UserError, match="sa_000002"):
        len(TarShards(tmp_path))


# Subsets


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text("abc/", min_size=1), min_size=1, max_size=30), st.integers(0, 9))
def test_a_subset_depends_on_names_alone(names: set[str], seed: int) -> None:
    order = sorted(names)
    chosen = {order[i] for i in Subset(3, seed).of(order)}
    assert len(chosen) == min(3, len(order))
    mixed = order.copy()
    random.Random(seed).shuffle(mixed)
    assert {mixed[i] for i in Subset(3, seed).of(mixed)} == chosen
    assert {order[i] for i in Subset(2, seed).of(order)} <= chosen
    others = sorted(names - chosen)
    fewer = sorted(chosen | set(others[: len(others) // 2]))  # some other images are missing
    assert {fewer[i] for i in Subset(3, seed).of(fewer)} == chosen


def test_a_list_names_images_by_path_or_stem_and_its_mistakes_by_row(tmp_path: Path) -> None:
    names = ["val2017/000000000139.jpg", "val2017/000000000285.jpg"]
    (tmp_path / "list.txt").write_text("# curated\n000000000285\nval2017/000000000139.jpg\n")
    assert Listed(tmp_path / "list.txt").of(names) == [1, 0]
    (tmp_path / "list.txt").write_text("000000000285\n\nnobody\n")
    with pytest.raises(UserError, match=r"list\.txt, row 3"):
        Listed(tmp_path / "list.txt").of(names)


# Views


def test_a_view_is_a_function_of_seed_epoch_and_image() -> None:
    image = Scenes(1, side=96).read(0)
    one, two, other = (Views(64, 32)(image, example_generator(0, epoch, 5)) for epoch in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["boxes"], other["boxes"])


@pytest.mark.parametrize("shape", [(97, 61), (40, 200), (3, 50)])
def test_boxes_say_where_a_crop_was_cut(shape: tuple[int, int]) -> None:
    """Each crop of an image that shows its own coordinates is where its box says."""
    rows = torch.linspace(0, 255, shape[0])[:, None].expand(shape)
    columns = torch.linspace(0, 255, shape[1])[None].expand(shape)
    image = torch.stack([rows, columns, columns]).round().to(torch.uint8)
    for seed in range(10):
        cut = Views(64, 64, 2, (0.2, 0.9), jitter=0.0)(image, torch.Generator().manual_seed(seed))
        left, top, side = cut["square"].tolist()
        assert 0 <= left <= shape[1] - side and 0 <= top <= shape[0] - side
        for crop, box, flip in zip(cut["crops"], cut["boxes"], cut["flips"], strict=True):
            upright = (crop.flip(-1) if flip else crop).float()
            middle = top + (box[1] + box[3]) / 2 * side
            assert upright[0].mean() == pytest.approx(
                255 * float(middle - 0.5) / max(1, shape[0] - 1), abs=3
            )
            middle = left + (box[0] + box[2]) / 2 * side
            assert upright[1].mean() == pytest.approx(
                255 * float(middle - 0.5) / max(1, shape[1] - 1), abs=3
            )


def test_a_bad_file_gives_way_to_the_next_and_is_reported_once(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "a.png", "b.png", "c.png")
    (root / "b.png").write_bytes(b"broken")
    data = ViewedImages(sources.folder(root), Views(32, 32), 0)
    with pytest.warns(UserWarning, match=r"skipped.*(?s:.)*b\.png") as caught:
        assert int(data[Draw(1, 0)]["index"]) == 2
        assert int(data[Draw(1, 1)]["index"]) == 2
    assert len(caught) == 1
    for name in ("a.png", "c.png"):
        (root / name).write_bytes(b"broken")
    with pytest.warns(UserWarning), pytest.raises(UserError, match="in a row"):
        data[Draw(0, 0)]


# Scenes


@pytest.mark.seconds
def test_scenes_are_the_same_every_time_and_their_masks_exact() -> None:
    scenes = Scenes(20, seed=4, side=96)
    for index in range(20):
        image, masks = scenes.read(index), scenes.masks(index)
        assert torch.equal(image, Scenes(20, seed=4, side=96).read(index))
        assert image.shape == (3, 96, 96) and 3 <= len(masks) <= 6
        assert masks.sum(0).max() <= 1  # visible parts never overlap
        assert masks.sum((1, 2)).min() > 40
    assert not torch.equal(scenes.read(0), Scenes(20, seed=5, side=96).read(0))


def test_two_objects_share_a_colour_and_no_colour_is_uniform() -> None:
    """Some pair is close in mean chroma, yet each object varies more than the pair differs."""
    close = []
    for index in range(12):
        scenes = Scenes(12, seed=1)
        image, masks = scenes.read(index).float(), scenes.masks(index)
        means = torch.stack([image[:, mask].mean(1) for mask in masks])
        chroma = means / means.sum(1, keepdim=True)
        apart = torch.cdist(chroma, chroma) + torch.eye(len(masks))
        close.append(float(apart.min()))
        spread = torch.stack([image[:, mask].std(1).mean() for mask in masks])
        assert spread.min() > 6  # more than the noise alone
    assert np.median(close) < 0.05
