"""Matching against every assignment, losses against closed forms, prototypes against DINO."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.segmentation.objectives.masks import NOTHING, mask_losses, objectness_loss
from primum.segmentation.objectives.matching import Pairs, dice_matrix, match
from primum.segmentation.objectives.query_distillation import (
    Centring,
    Sinkhorn,
    distillation_loss,
    entropy,
)
from primum.segmentation.pseudo_masks import Targets


def alone(value: torch.Tensor) -> torch.Tensor:
    """The sum over one rank."""
    return value


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_no_assignment_has_a_greater_dice(seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 5, 4, 4, generator=dice)
    masks = torch.rand(2, 6, 4, 4, generator=dice) < 0.4
    valid = torch.rand(2, 6, generator=dice) < 0.7
    pairs = match(logits, Targets(masks, valid, 4), (3, 2))
    score = dice_matrix(logits, masks)
    for view in range(2):
        for queries, rows in (((0, 1, 2), range(4)), ((3, 4), range(4, 6))):
            there = [row for row in rows if valid[view, row]]
            count = min(len(queries), len(there))
            best = max(
                sum(float(score[view, q, r]) for q, r in zip(chosen, part, strict=True))
                for part in itertools.combinations(there, count)
                for chosen in itertools.permutations(queries, count)
            )
            mine = (pairs.view == view) & torch.isin(pairs.query, torch.tensor(queries))
            assert int(mine.sum()) == count
            assert set(pairs.target[mine].tolist()) <= set(there)
            assert float(pairs.dice[mine].sum()) == pytest.approx(best, abs=1e-5)
        assert float(pairs.weight[pairs.view == view].sum()) in (0.0, pytest.approx(1.0))


def test_dice_of_a_mask_with_itself_is_one() -> None:
    masks = torch.rand(1, 3, 8, 8) < 0.5
    found = dice_matrix(torch.where(masks, 50.0, -50.0), masks)
    torch.testing.assert_close(found[0].diagonal(), torch.ones(3))


def test_views_weigh_alike_however_many_masks_they_have() -> None:
    logits, masks = torch.zeros(2, 4, 2, 2), torch.ones(2, 4, 2, 2, dtype=torch.bool)
    valid = torch.tensor([[True] * 4, [True] + [False] * 3])
    pairs = match(logits, Targets(masks, valid, 4), (4, 0))
    found, dice = mask_losses(logits, masks, pairs)
    assert float(found) == pytest.approx(2 * math.log(2))  # one view's mean, twice
    assert float(dice) == pytest.approx(2 * (1 - 5 / 7))


def test_a_view_without_masks_costs_nothing_but_keeps_its_gradient() -> None:
    logits = torch.zeros(1, 4, 2, 2, requires_grad=True)
    masks = torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    pairs = match(logits, Targets(masks, torch.zeros(1, 3, dtype=torch.bool), 2), (2, 2))
    found, dice = mask_losses(logits, masks, pairs)
    (found + dice).backward()
    assert float(found) == float(dice) == 0 and logits.grad is not None


def test_objectness_weighs_nothing_less() -> None:
    pairs = Pairs(*(torch.tensor([0]) for _ in range(3)), torch.ones(1), torch.ones(1))
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    hit, missed = math.log1p(math.exp(-2.0)), [math.log1p(math.exp(v)) for v in (-1.0, 0.5)]
    expected = (hit + NOTHING * sum(missed)) / (1 + 2 * NOTHING)
    assert float(objectness_loss(logits, pairs)) == pytest.approx(expected, rel=1e-6)


def test_distillation_is_least_where_student_and_teacher_agree() -> None:
    wanted = torch.tensor([[0.7, 0.2, 0.1]])
    agreeing = 0.1 * wanted.log()
    least = float(distillation_loss(agreeing, wanted))
    assert least == pytest.approx(float(entropy(wanted)), rel=1e-5)
    assert least < float(distillation_loss(agreeing.flip(-1), wanted))


def test_the_centre_is_the_running_mean_of_each_kind_over_a_whole_step() -> None:
    centring = Centring(4, momentum=0.9)
    kind = torch.tensor([0, 0, 1])
    first, second = torch.randn(2, 3, 4), torch.randn(1, 3, 4)
    seen = [torch.tensor([[True, False, True], [True, True, False]]), torch.ones(1, 3) > 0]
    for logits, valid in zip((first, second), seen, strict=True):
        before = centring(logits, kind, valid, 0.04, alone)
        torch.testing.assert_close(before, (logits / 0.04).softmax(-1))  # nothing has moved yet
        centring.observe(logits, kind, valid)
    centring.settle(alone)
    things = torch.stack([first[0, 0], first[1, 0], first[1, 1], second[0, 0], second[0, 1]])
    stuff = torch.stack([first[0, 2], second[0, 2]])
    torch.testing.assert_close(centring.centre, 0.1 * torch.stack([things.mean(0), stuff.mean(0)]))
    shifted = centring(first, kind, seen[0], 0.5, alone)
    torch.testing.assert_close(shifted, ((first - centring.centre[kind]) / 0.5).softmax(-1))


def test_the_centre_stays_where_a_kind_was_not_seen() -> None:
    centring = Centring(3)
    centring.observe(torch.ones(1, 2, 3), torch.tensor([0, 1]), torch.tensor([[True, False]]))
    centring.settle(alone)
    assert centring.centre[0].tolist() == pytest.approx([0.1] * 3)
    assert centring.centre[1].tolist() == [0.0] * 3


def test_sinkhorn_uses_every_prototype_alike() -> None:
    kind = torch.tensor([0] * 40 + [1] * 24)
    valid = torch.rand(3, 64, generator=torch.Generator().manual_seed(0)) < 0.8
    logits = torch.rand(3, 64, 8) + torch.linspace(0, 0.3, 8)  # most would choose the last
    found = Sinkhorn(8, rounds=30)(logits, kind, valid, 0.1, alone)
    torch.testing.assert_close(found.sum(-1)[valid], torch.ones(int(valid.sum())))
    for chosen in (0, 1):
        used = found[valid & (kind == chosen)].sum(0)
        torch.testing.assert_close(used, used.mean().expand(8), rtol=1e-3, atol=1e-3)
    assert float(found[~valid].sum()) == 0
