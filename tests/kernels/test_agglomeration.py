"""UniAP's fast paths: the oracle's labels, and what must hold whatever the features."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.oracle import uniap
from tests.kernels.scenes import OPTIONS, SCENES, noise, smooth, uniform
from torch import Tensor
from torch.testing import assert_close

from primum_kernels.agglomeration import PRESETS, Agglomeration, agglomerate

BAND = 1e-6


def flat(labels: Tensor) -> np.ndarray:
    return labels[:, 0].flatten(1).numpy()


def nested(labels: Tensor) -> bool:
    """Whether every level refines the next one."""
    for fine, coarse in zip(labels[:-1].flatten(2), labels[1:].flatten(2), strict=True):
        for one, other in zip(fine, coarse, strict=True):
            if len(torch.stack([one, other]).unique(dim=1).T) != len(one.unique()):
                return False
    return True


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.seconds
def test_labels_equal_the_oracle(scene: str) -> None:
    image, scored, doubtful = SCENES[scene], 0, 0
    for name, options in OPTIONS.items():
        expected = uniap(image, BAND, **options)
        scored, doubtful = scored + expected.scored, doubtful + expected.doubtful
        if expected.doubtful:
            continue
        found = agglomerate(torch.from_numpy(image)[None], **options, backend="torch")
        np.testing.assert_array_equal(flat(found.labels), np.stack(expected.labels), name)
        if found.semantic is not None:
            np.testing.assert_array_equal(flat(found.semantic), np.stack(expected.semantic), name)
    assert doubtful <= 1e-3 * scored


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.seconds
def test_doubtful_pairs_are_rare_and_the_rest_agrees(preset: str) -> None:
    scored = doubtful = compared = 0
    for seed in range(12):
        image = smooth(11, 14, 16, 100 + seed, detail=0.2 + 0.05 * seed)
        expected = uniap(image, BAND, **PRESETS[preset])
        scored, doubtful = scored + expected.scored, doubtful + expected.doubtful
        if not expected.doubtful:
            found = agglomerate(torch.from_numpy(image)[None], **PRESETS[preset], backend="torch")
            np.testing.assert_array_equal(flat(found.labels), np.stack(expected.labels))
            compared += 1
    assert compared >= 10
    assert doubtful <= 1e-3 * scored


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tables_equal_the_reference(options: str) -> None:
    features = torch.from_numpy(np.stack([smooth(9, 8, 12, 20), smooth(9, 8, 12, 21)]))
    given = OPTIONS[options] | {"min_area": 2, "max_instances": 5}
    expected = agglomerate(features, **given, backend="reference")
    found = agglomerate(features, **given, backend="torch")
    for name, value in vars(expected.regions).items():
        other = getattr(found.regions, name)
        assert_close(other, value.to(other.dtype), atol=2e-5, rtol=1e-4, msg=f"{name} differs")
    assert found.overflow.instances.tolist() == expected.overflow.instances.tolist()
    assert found.overflow.semantic.tolist() == expected.overflow.semantic.tolist()


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 10**6),
    detail=st.floats(0.0, 1.0), preset=st.sampled_from(sorted(PRESETS)),
    min_area=st.integers(1, 6),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_whatever_the_features_the_result_is_consistent(
    height: int, width: int, seed: int, detail: float, preset: str, min_area: int
) -> None:
    features = torch.from_numpy(smooth(height, width, 6, seed, detail))[None]
    result = agglomerate(features, **PRESETS[preset], min_area=min_area)
    tokens = height * width
    assert nested(result.labels)
    for level, (labels, count) in enumerate(zip(flat(result.labels), result.counts, strict=True)):
        names, first = np.unique(labels, return_index=True)
        assert names.tolist() == list(range(int(count)))  # a full partition, compactly named
        assert (np.diff(first) > 0).all()  # in raster order
        if result.semantic is not None:
            assert joins(labels, flat(result.semantic)[level])
    assert masks_listed(result, 0) == masks_expected(result, min_area, tokens)


def joins(fine: np.ndarray, coarse: np.ndarray) -> bool:
    return len(np.unique(np.stack([fine, coarse]), axis=1).T) == len(np.unique(fine))


def masks_listed(result: Agglomeration, image: int) -> dict[frozenset[int], tuple[int, ...]]:
    """Every mask of the table with its facts, each checked against the pixels."""
    table, found = result.regions.of_image(image), {}
    labels = result.labels[:, image]
    for row in range(len(table)):
        mask = labels[table.level[row]] == table.label[row]
        left, top, right, bottom = table.box[row].tolist()
        ys, xs = mask.nonzero(as_tuple=True)
        assert (left, top, right, bottom) == (
            int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1,
        )  # fmt: skip
        assert int(table.area[row]) == int(mask.sum())
        assert 0 <= float(table.score[row]) <= 1
        parent = int(table.parent[row])
        if parent >= 0:
            container = labels[table.level[parent]] == table.label[parent]
            assert bool((container & mask).sum() == mask.sum() < container.sum())
        key = frozenset(mask.flatten().nonzero().flatten().tolist())
        assert key not in found, "a mask is listed twice"
        found[key] = (int(table.level[row]), int(table.persistence[row]))
    return found


def masks_expected(
    result: Agglomeration, min_area: int, tokens: int
) -> dict[frozenset[int], tuple[int, ...]]:
    """Distinct masks, their first level and how many levels have them, by brute force."""
    seen: dict[frozenset[int], list[int]] = {}
    for level, labels in enumerate(result.labels[:, 0].flatten(1)):
        for name in labels.unique():
            mask = frozenset((labels == name).nonzero().flatten().tolist())
            if len(mask) >= min_area:
                seen.setdefault(mask, []).append(level)
    return {mask: (levels[0], len(levels)) for mask, levels in seen.items()}


@pytest.mark.seconds
def test_a_batch_is_its_images_one_by_one() -> None:
    images = torch.from_numpy(np.stack([smooth(8, 9, 10, seed) for seed in range(16)]))
    for name, preset in PRESETS.items():
        together = agglomerate(images, **preset)
        for index, image in enumerate(images):
            alone = agglomerate(image[None], **preset)
            assert torch.equal(together.labels[:, index], alone.labels[:, 0]), name
            ours, theirs = together.regions.of_image(index), alone.regions.of_image(0)
            for field in dataclasses.fields(ours):
                assert torch.equal(getattr(ours, field.name), getattr(theirs, field.name))


def test_bfloat16_agrees_outside_the_band() -> None:
    """Rounding to 8 bits moves a similarity by less than 2e-3, and labels only within that."""
    agreed = 0
    for seed in range(30):
        image = smooth(9, 11, 64, seed)
        expected = uniap(image, band=2e-3)
        if not expected.doubtful:
            labels = agglomerate(torch.from_numpy(image).bfloat16()[None]).labels
            np.testing.assert_array_equal(flat(labels), np.stack(expected.labels))
            agreed += 1
    assert agreed >= 5


def test_balance_lets_specks_join_before_halves_do() -> None:
    """Two halves at a right angle, one token in the left that is as far from it as the right is."""
    image = torch.zeros(1, 6, 8, 3)
    image[..., :4, 0] = image[..., 4:, 1] = 1
    image[0, 2, 1] = torch.tensor([0.0, 0.0, 1.0])
    options = dict(similarity="feature", rounds="until-stable", pooling="sum")
    options |= dict(thresholds=(0.9, 0.5))
    assert agglomerate(image, **options).counts.tolist() == [[3], [3]]
    balanced = agglomerate(image, **options, balance=0.5)
    assert balanced.counts.tolist() == [[3], [2]]
    left, right = balanced.labels[1, 0, :, :4], balanced.labels[1, 0, :, 4:]
    assert not left.any() and bool((right == 1).all())


@pytest.mark.parametrize("preset", PRESETS)
def test_flips_flip_the_regions(preset: str) -> None:
    if PRESETS[preset].get("linkage") == "reciprocal":
        preset_options = dict(PRESETS[preset]) | {"linkage": "components"}  # ties go by position
    else:
        preset_options = dict(PRESETS[preset])
    features = torch.from_numpy(smooth(10, 7, 12, 5))[None]
    straight = agglomerate(features, **preset_options).labels
    flipped = agglomerate(features.flip(2), **preset_options).labels.flip(3)
    for one, other in zip(flat(straight), flat(flipped), strict=True):
        assert joins(one, other)
        assert joins(other, one)


def test_one_colour_becomes_one_region_and_noise_none() -> None:
    for preset in PRESETS.values():
        merged = agglomerate(torch.from_numpy(uniform(12, 9))[None], **preset)
        assert merged.counts.flatten().tolist() == [1] * 5
        assert merged.regions.of_image(0).area.tolist() == [108]
    apart = agglomerate(torch.from_numpy(noise(6, 6, 512, 0))[None], **PRESETS["author_code"])
    assert apart.counts.flatten().tolist() == [36] * 5
    assert len(apart.regions.of_image(0)) == 0


def test_a_zero_token_and_half_precision_are_taken() -> None:
    features = torch.from_numpy(smooth(6, 6, 8, 9))[None]
    features[0, 2, 3] = 0
    whole = agglomerate(features.half().float())
    assert torch.equal(agglomerate(features.half()).labels, whole.labels)
    assert agglomerate(features.bfloat16()).labels.shape == (5, 1, 6, 6)


def test_caps_are_kept_and_reported() -> None:
    features = torch.from_numpy(smooth(10, 10, 8, 11))[None]
    full = agglomerate(features, semantic=True, min_area=1)
    few = agglomerate(features, semantic=True, min_area=1, max_instances=2, max_semantic=4)
    assert torch.equal(full.labels, few.labels)
    new = int((full.regions.level == 0).sum())
    assert new > 2
    assert full.overflow.instances.tolist() == [0]
    table = few.regions.of_image(0)
    assert all(int((table.level == level).sum()) <= 2 for level in range(5))
    kept = int(few.overflow.instances) + len(table)
    assert kept == len(full.regions.of_image(0))
    assert int(few.overflow.semantic) == int((few.counts[:, 0] - 4).clamp(min=0).sum())
    largest = full.regions.area[full.regions.level == 0].sort(descending=True).values[:2]
    assert sorted(table.area[table.level == 0].tolist()) == sorted(largest.tolist())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_features_that_are_not_finite_are_named(value: float, backend: str) -> None:
    features = torch.ones(2, 3, 4, 5)
    features[1, 2, 3, 0] = value
    with pytest.raises(ValueError, match="image 1 at row 2, column 3"):
        agglomerate(features, backend=backend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": ()}, "thresholds"),
        ({"thresholds": (0.5, 0.6)}, "must not rise"),
        ({"thresholds": (1.5,)}, "within -1..1"),
        ({"similarity": "cosine"}, "one of paper, feature"),
        ({"rounds": 0}, "until-stable"),
        ({"min_area": 0}, "at least 1"),
        ({"sigma": 0.0}, "positive"),
        ({"backend": "cuda"}, "backend"),
        ({"balance": 0.5}, "similarity='feature'"),
        ({"balance": -1.0, "similarity": "feature"}, "balance"),
    ],
)
def test_options_out_of_range_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agglomerate(torch.ones(1, 2, 2, 3), **change)


def test_wrong_shapes_and_types_are_named() -> None:
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        agglomerate(torch.ones(2, 2, 3))
    with pytest.raises(ValueError, match="none of them empty"):
        agglomerate(torch.ones(1, 0, 2, 3))
    with pytest.raises(TypeError, match="floating point"):
        agglomerate(torch.ones(1, 2, 2, 3, dtype=torch.int64))
