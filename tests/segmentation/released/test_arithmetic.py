"""Blocks with conventions of their own, equal to float64 NumPy loops to 1e-6."""

import numpy as np
import pytest
import torch
from tests.segmentation.released import oracles
from transformers.models.mask2former import modeling_mask2former as hf

from primum.segmentation.released import boxes
from primum.segmentation.released.cutler import SIZES, STRIDES, WEIGHTS, CutLer

CLOSE = {"rel": 0, "abs": 1e-6}


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(11)


def some_boxes(draw: np.random.Generator, count: int, side: float) -> np.ndarray:
    corner = draw.uniform(-5, side * 0.8, (count, 2))
    return np.concatenate([corner, corner + draw.uniform(1, side * 0.9, (count, 2))], 1)


def test_regions_are_pooled_with_half_a_pixel_of_shift(draw: np.random.Generator) -> None:
    features = [torch.from_numpy(draw.normal(size=(1, 3, 80 >> n, 96 >> n))) for n in range(4)]
    given = some_boxes(draw, 9, 330.0)
    given[0] = [300, 200, 460, 330]  # leaves the picture
    given[1] = [10.25, 8.5, 13.0, 9.75]  # smaller than a bin
    given[2] = [0, 0, 384, 320]
    found = boxes.pool(features, torch.from_numpy(given), 7).numpy()
    level = boxes.levels(torch.from_numpy(given)).numpy()
    assert len(set(level)) > 1
    for box, number, one in zip(given, level, found, strict=True):
        feature = features[number - 2][0].numpy()
        expected = oracles.roi_align(feature, box, 7, 1 / (4 << (number - 2)))
        assert one == pytest.approx(expected, **CLOSE)


def test_levels_follow_the_side_of_a_box() -> None:
    sides = torch.tensor([1.0, 111.0, 112.0, 223.9, 224.0, 447.0, 448.0, 4000.0])
    square = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], 1)
    assert boxes.levels(square).tolist() == [2, 2, 3, 3, 4, 4, 5, 5]


def test_anchors_are_not_rounded_and_start_at_zero() -> None:
    made = boxes.anchors(3, 4, 8, 64, (0.5, 1.0, 2.0), like=torch.zeros(1, dtype=torch.float64))
    assert made.numpy() == pytest.approx(oracles.anchors(3, 4, 8, 64, (0.5, 1, 2)), **CLOSE)
    assert made[0, 0] != made[0, 0].round()


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5), (30, 30, 15, 15)])
def test_boxes_are_decoded(draw: np.random.Generator, weights: tuple[int, ...]) -> None:
    given, deltas = some_boxes(draw, 20, 100.0), draw.normal(0, 8, (20, 4))
    deltas[0, 2:] = 200  # growth has a bound
    found = boxes.decode(torch.from_numpy(deltas), torch.from_numpy(given), weights).numpy()
    for box, delta, one in zip(given, deltas, found, strict=True):
        assert one == pytest.approx(oracles.decode(delta, box, weights), rel=1e-12, abs=1e-6)


def test_masks_are_laid_into_their_boxes(draw: np.random.Generator) -> None:
    masks = draw.random((3, 7, 7))
    given = np.array([[2.3, 1.2, 14.9, 11.0], [0, 0, 3.0, 2.0], [-4.0, 5.0, 30.0, 40.0]])
    found = boxes.paste(torch.from_numpy(masks), torch.from_numpy(given), 13, 17).numpy()
    for mask, box, one in zip(masks, given, found, strict=True):
        assert one == pytest.approx(oracles.paste(mask, box, 13, 17), **CLOSE)


def test_boxes_are_cut_at_the_border() -> None:
    cut = boxes.clip(torch.tensor([[-3.0, 2.0, 50.0, 9.0]]), 8, 40)
    assert cut.tolist() == [[0.0, 2.0, 40.0, 8.0]]


def test_positions_are_encoded_as_in_detectron2() -> None:
    made = hf.Mask2FormerSinePositionEmbedding(8, normalize=True)(
        torch.Size((1, 3, 5, 7)), torch.device("cpu"), torch.float64
    )
    assert made[0].numpy() == pytest.approx(oracles.sine_position(5, 7, 8), **CLOSE)


def test_deformable_attention(draw: np.random.Generator) -> None:
    torch.manual_seed(0)
    shapes, heads, points, channels = [(5, 4), (3, 3), (2, 1)], 2, 4, 16
    block = hf.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(
        channels, heads, len(shapes), points
    ).double()
    with torch.no_grad():
        block.sampling_offsets.bias.uniform_(-3, 3)  # some samples fall outside
    positions = sum(rows * columns for rows, columns in shapes)
    query, value = draw.normal(size=(2, 6, channels))[0], draw.normal(size=(positions, channels))
    reference = draw.random((6, len(shapes), 2))
    with torch.no_grad():
        found, _ = block(
            torch.from_numpy(query)[None],
            encoder_hidden_states=torch.from_numpy(value)[None],
            reference_points=torch.from_numpy(reference)[None],
            spatial_shapes_list=shapes,
        )
    weights = {key: tensor.numpy() for key, tensor in block.state_dict().items()}
    expected = oracles.deformable_attention(query, value, reference, shapes, heads, points, weights)
    assert found[0].numpy() == pytest.approx(expected, **CLOSE)


def small_cutler(draw: np.random.Generator) -> tuple[CutLer, list[torch.Tensor]]:
    """A detector in float64 with lively weights, and the pyramid of a picture of 64 x 96 pixels."""
    torch.manual_seed(2)
    model = CutLer(least_score=0.4, most=8, channels=3, hidden=8).double()
    with torch.no_grad():
        for part in (model.rpn, model.box_heads):
            for weight in part.parameters():
                weight.normal_(0, 0.35)
        model.rpn.conv.bias.fill_(3.0)  # positions without any activation would tie
    shapes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    return model, [torch.from_numpy(draw.normal(size=(1, 3, *shape))) for shape in shapes]


def test_proposals_are_those_of_loops_over_positions_and_shapes(draw: np.random.Generator) -> None:
    model, features = small_cutler(draw)
    boxes_, scores = [], []
    with torch.no_grad():
        found = model.rpn(features, (64, 96), 1000).numpy()
        for number, feature in enumerate(features):
            hidden = torch.relu(model.rpn.conv(feature))
            logits = model.rpn.objectness_logits(hidden)[0].numpy()
            deltas = model.rpn.anchor_deltas(hidden)[0].numpy()
            rows, columns = feature.shape[2:]
            grid = oracles.anchors(rows, columns, STRIDES[number], SIZES[number], (0.5, 1, 2))
            own = []
            for y in range(rows):
                for x in range(columns):
                    for shape in range(3):
                        anchor = grid[(y * columns + x) * 3 + shape]
                        delta = deltas[4 * shape : 4 * shape + 4, y, x]
                        box = oracles.cut(oracles.decode(delta, anchor, (1, 1, 1, 1)), 64, 96)
                        own.append((logits[shape, y, x], box))
            own = sorted(own, key=lambda pair: -pair[0])[:1000]
            own = [pair for pair in own if (pair[1][2:] > pair[1][:2]).all()]
            level = np.array([pair[1] for pair in own]), np.array([pair[0] for pair in own])
            kept = oracles.suppressed(*level, 0.7)
            boxes_.append(level[0][kept])
            scores.append(level[1][kept])
    order = np.argsort(-np.concatenate(scores))[:1000]
    assert len(found) == len(order)
    assert found == pytest.approx(np.concatenate(boxes_)[order], **CLOSE)


@pytest.mark.seconds
def test_each_stage_refines_the_last_and_scores_are_their_mean(draw: np.random.Generator) -> None:
    model, features = small_cutler(draw)
    weights = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        given = model.rpn(features, (64, 96), 1000)
        found, chances = (part.numpy() for part in model.detect(features, (64, 96)))
    refined, score = given.numpy(), np.zeros(len(given))
    for stage, factors in enumerate(WEIGHTS):
        level = boxes.levels(torch.from_numpy(refined)).numpy()
        moved = []
        for index, (box, number) in enumerate(zip(refined, level, strict=True)):
            feature = features[number - 2][0].numpy()
            pooled = oracles.roi_align(feature, box, 7, 1 / (4 << (number - 2)))
            chance, delta = oracles.box_head(pooled, weights, stage)
            score[index] += chance / 3
            moved.append(oracles.cut(oracles.decode(delta, box, factors), 64, 96))
        refined = np.array(moved)
    sure = score > 0.4
    kept = oracles.suppressed(refined[sure], score[sure], 0.5)[:8]
    assert 1 < len(kept) < sure.sum()
    assert chances == pytest.approx(score[sure][kept], **CLOSE)
    assert found == pytest.approx(refined[sure][kept], **CLOSE)
