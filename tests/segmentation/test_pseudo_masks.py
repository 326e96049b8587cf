"""Masks cut to a view are what is seen through it; the worth of a mask decides its place."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from primum.errors import UserError
from primum.segmentation.from_pseudo_masks import cropped
from primum.segmentation.pseudo_masks import Proposals, UniapProposals, points


def blocks() -> torch.Tensor:
    """(1, 8, 8, 4) features: quarters of the image, of which two opposite ones look alike."""
    quarter = torch.tensor([[0, 1], [2, 0]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    return one_hot(quarter, 4)[None].float()


def expanded(found: Proposals, image: int = 0) -> list[tuple[bool, torch.Tensor]]:
    """Whether instance, and mask, of each valid row."""
    rows = found.valid[image].nonzero()[:, 0].tolist()
    return [
        (
            row < found.instances,
            (found.maps[image, found.layer[image, row]] == found.label[image, row]).view(
                found.grid
            ),
        )
        for row in rows
    ]


def test_quarters_are_four_instances_and_three_semantic_masks() -> None:
    found = UniapProposals("recommended", {"thresholds": (0.9, 0.5)}, 10, 10)(blocks())
    masks = expanded(found)
    assert sum(instance for instance, _ in masks) == 4
    assert sorted(int(mask.sum()) for instance, mask in masks if not instance) == [16, 16, 32]
    torch.testing.assert_close(
        found.share[found.valid], torch.stack([m.float().mean() for _, m in masks])
    )
    for row, (_, mask) in zip(found.valid[0].nonzero()[:, 0], masks, strict=True):
        mean = blocks()[0][mask].mean(0)  # a region of one look has that look as its feature
        torch.testing.assert_close(found.feature[0, row], mean)


def test_limits_keep_the_most_persistent_then_the_largest() -> None:
    features = torch.randn(3, 8, 8, 6, generator=torch.Generator().manual_seed(0))
    features[:, :4] = 0.1 * features[:, :4] + torch.eye(6)[0]  # one region at every level
    settings_ = {"thresholds": (0.8, 0.5, 0.2), "min_area": 1}
    every = UniapProposals("recommended", settings_, 64, 0)(features)
    few = UniapProposals("recommended", settings_, 5, 0)(features)
    assert few.valid.shape == (3, 5)
    for image in range(3):
        some = [mask.flatten().tolist() for _, mask in expanded(few, image)]
        assert some == [mask.flatten().tolist() for _, mask in expanded(every, image)][:5]


def test_a_mask_of_the_whole_image_and_a_near_double_are_left_out() -> None:
    same = torch.ones(1, 8, 8, 3)
    assert not UniapProposals("recommended", {}, 8, 8)(same).valid.any()
    doubled = torch.zeros(1, 8, 8, 3)
    doubled[..., 0] = 1.0
    doubled[:, :, 4:] = torch.tensor([0.0, 1.0, 0.0])
    doubled[:, 0, 0] = torch.tensor([1.0, 0.4, 0.0])  # joins its neighbours one level later
    found = UniapProposals("recommended", {"thresholds": (0.99, 0.6), "min_area": 1}, 9, 0)(doubled)
    areas = sorted(int(mask.sum()) for _, mask in expanded(found))
    assert areas == [1, 32, 32]  # not 31, which fills its parent


def test_centring_takes_the_common_part_away() -> None:
    common = blocks() + 20 * torch.ones(4)
    assert not UniapProposals("recommended", {}, 9, 0)(common).valid.any()
    assert UniapProposals("recommended", {}, 9, 0, centre=True)(common).valid.sum() == 4


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(UserError, match="sharpest"):
        UniapProposals("sharpest")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_cropped_mask_is_the_mask_seen_through_the_box(seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 6, 9, 5, generator=dice)
    found = UniapProposals("recommended", {"thresholds": (0.3,), "min_area": 1}, 20, 4)(features)
    low = torch.rand(2, 3, 2, generator=dice) * 0.5
    boxes = torch.cat([low, low + 0.1 + 0.4 * torch.rand(2, 3, 2, generator=dice)], -1)
    flips = torch.rand(2, 3, generator=dice) < 0.5
    seen = found.cropped(boxes, flips, 16)
    assert seen.masks.shape[0] == 6 and seen.instances == 20
    image, crop = int(torch.randint(2, (), generator=dice)), 1
    whole = found.maps[image, found.layer[image]] == found.label[image, :, None]
    left, top, right, bottom = boxes[image, crop].tolist()
    for y, x in ((0, 0), (3, 15), (8, 7)):
        across = 15 - x if flips[image, crop] else x
        column = int((left + (right - left) * (across + 0.5) / 16) * 9)
        row = int((top + (bottom - top) * (y + 0.5) / 16) * 6)
        view = seen.masks[image * 3 + crop, :, y, x]
        assert torch.equal(view, whole[:, row * 9 + column])
    covered = seen.masks.float().mean((-1, -2))
    assert (covered[seen.valid] >= 0.01).all()
    assert not (seen.valid & ~found.valid.repeat_interleave(3, 0)).any()


def test_masks_from_a_file_are_cut_alike() -> None:
    label = torch.arange(64).view(8, 8) // 20
    masks = one_hot(label, 4).permute(2, 0, 1)[None].to(torch.uint8)
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]]])
    seen = cropped(masks, boxes, torch.tensor([[False, True]]), 8)
    assert torch.equal(seen.masks[0], masks[0] > 0)
    corner = masks[0, :, :4, 4:].repeat_interleave(2, 1).repeat_interleave(2, 2).flip(-1)
    assert torch.equal(seen.masks[1], corner > 0)
    assert seen.valid[1].tolist() == [True, True, False, False]
    padding = torch.cat([masks, torch.zeros_like(masks[:, :1])], 1)
    assert not cropped(padding, boxes, torch.tensor([[False, True]]), 8).valid[:, 4].any()


def test_a_mirrored_full_view_is_mirrored() -> None:
    whole = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    assert points(whole, torch.tensor([[True]]), 3, (3, 3)).tolist() == [
        [[2, 1, 0, 5, 4, 3, 8, 7, 6]]
    ]
