"""`UniAP(...)(image)`: SAM's keys, masks that say what they are, and the pieces below."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from tests.segmentation.photos import NAME, mosaic

from primum.errors import UserError
from primum.segmentation.absorbing import absorbed
from primum.segmentation.backbones import Backbone
from primum.segmentation.colours import palette
from primum.segmentation.rle import runs
from primum.segmentation.snapping import snapped
from primum.segmentation.tuning import tune
from primum.segmentation.uniap import UniAP

SAM = {
    "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box",
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(NAME, "random", size=320, options={"depth": 2, "embed_dim": 48, "num_heads": 3})


def made(backbone: Backbone, **options: object) -> UniAP:
    return UniAP("recommended", backbone, thresholds=(0.9, 0.7, 0.4), device="cpu", **options)  # type: ignore[arg-type]


def test_masks_have_the_keys_of_sam_and_are_what_they_say(backbone: Backbone) -> None:
    image = mosaic(60, 90)
    masks = made(backbone)(image)
    assert len(masks) > 3 and isinstance(masks, list)
    scores = [one["score"] for one in masks]
    assert scores == sorted(scores, reverse=True)
    for one in masks:
        assert set(one) == SAM | {"level", "parent", "score"}
        mask = one["segmentation"]
        assert mask.shape == (60, 90) and mask.dtype == bool and mask.sum() == one["area"] > 0
        left, top, wide, tall = one["bbox"]
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min()) == (left, top)
        assert (columns.max() + 1, rows.max() + 1) == (left + wide, top + tall)
        ((x, y),) = one["point_coords"]
        assert mask[y, x] and 0 < one["stability_score"] <= 1
        if one["parent"] is not None:
            parent = masks[one["parent"]]
            assert parent["level"] > one["level"] and not (mask & ~parent["segmentation"]).any()


def test_output_modes_say_the_same(backbone: Backbone) -> None:
    image = mosaic(60, 90)
    dense = made(backbone)(image)
    packed = made(backbone, output_mode="coco_rle")(image)
    loose = made(backbone, output_mode="uncompressed_rle")(image)
    for one, two, three in zip(dense, packed, loose, strict=True):
        assert (coco_mask.decode(two["segmentation"]).astype(bool) == one["segmentation"]).all()
        again = coco_mask.frPyObjects(three["segmentation"], 60, 90)
        assert again["counts"].decode() == two["segmentation"]["counts"]
    with pytest.raises(UserError, match="output_mode"):
        made(backbone, output_mode="polygons")


def test_what_is_no_picture_and_what_is_no_feature_is_told(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    uniap = made(backbone)
    assert uniap(Image.fromarray(mosaic(40, 40)).convert("L")) and uniap(mosaic(40, 40)[..., 0])
    for wrong in (
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(UserError, match="uint8 RGB"):
            uniap(wrong)
    with pytest.raises(UserError, match="no such picture"):
        uniap("nowhere.png")
    spoilt = torch.rand(1, 6, 6, 8)
    spoilt[0, 2, 3] = torch.nan
    monkeypatch.setattr(uniap, "features", lambda image: spoilt)
    with pytest.raises(UserError, match="NaN") as caught:
        uniap(mosaic(40, 40))
    assert "row 2, column 3" in str(caught.value) and caught.value.remedy


def test_dense_masks_that_would_fill_the_memory_are_refused(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("primum.segmentation.uniap.LARGEST", 10_000)
    with pytest.raises(UserError, match="GiB") as caught:
        made(backbone)(mosaic(60, 90))
    assert "coco_rle" in str(caught.value.remedy)
    assert made(backbone, output_mode="coco_rle")(mosaic(60, 90))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_runs_are_what_pycocotools_encodes(height: int, width: int, kinds: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, kinds, (height, width))
    found = dict(runs(labels))
    assert sorted(found) == np.unique(labels).tolist()
    for label, run in found.items():
        mask = labels == label
        theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert run.compressed()["counts"] == theirs["counts"].decode()
        assert (run.mask() == mask).all()
        x, y = run.point()
        assert mask[y, x]


def test_borders_move_to_edges_and_by_no_more_than_a_token() -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    image[:, 53:] = 255  # the edge lies inside the seventh column of tokens
    labels = np.zeros((12, 12), int)
    labels[:, 6:] = 1
    found = snapped(image, labels)
    assert (found[:, :52] == 0).all() and (found[:, 54:] == 1).all()
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    moved = snapped(noise, labels) != np.repeat(np.repeat(labels, 8, 0), 8, 1)
    assert moved.any() and not moved[:, :40].any() and not moved[:, 56:].any()


def test_specks_go_to_the_neighbour_they_look_like() -> None:
    features = np.zeros((4, 6, 3), np.float32)
    features[:, :3, 0] = features[:, 3:, 1] = 1
    labels = np.zeros((4, 6), int)
    labels[:, 3:] = 1
    labels[1, 2] = 2  # beside both, and like the second
    features[1, 2] = (0.1, 0.9, 0)
    assert absorbed(labels, features, 2).tolist() == [0, 1, 1]
    assert absorbed(labels, features, 1).tolist() == [0, 1, 2]
    assert absorbed(np.zeros((1, 1), int), features[:1, :1], 4).tolist() == [0]
    single = np.arange(24).reshape(4, 6)
    owner = absorbed(single, features, 4)
    assert np.bincount(owner)[np.unique(owner)].min() >= 4 and (owner == owner[owner]).all()


def test_a_regions_largest_part_keeps_its_colour(backbone: Backbone) -> None:
    nested = made(backbone).nested(mosaic(60, 90))
    colours = palette(nested)
    assert [len(one) for one in colours] == [int(row.max()) + 1 for row in nested.ladder]
    top = nested.levels - 1
    area = np.bincount(nested.ladder[top - 1], np.bincount(nested.finest.ravel()))
    for label in np.unique(nested.labels(top)):
        below = np.unique(nested.ladder[top - 1][nested.ladder[top] == label])
        largest = below[np.argmax(area[below])]
        assert (colours[top][label] == colours[top - 1][largest]).all()


@pytest.mark.seconds
def test_tuning_finds_thresholds_that_leave_the_wanted_regions(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [mosaic(90, 120, seed) for seed in range(3)]
    first, second = tune(made(backbone), pictures, wanted=(8, 4, 2))
    assert first.centre != second.centre
    assert first.stability.mean() >= second.stability.mean()
    for found in (first, second):
        assert list(found.thresholds) == sorted(found.thresholds, reverse=True)
        assert (np.diff(found.counts) <= 1e-9).all()  # merging never makes it more
        assert ((found.stability > 0) & (found.stability <= 1)).all()
    uniap = made(backbone)
    monkeypatch.setattr(uniap, "features", lambda image: torch.ones(1, 5, 5, 8))
    with pytest.raises(UserError, match="tell nothing apart"):
        tune(uniap, pictures)
