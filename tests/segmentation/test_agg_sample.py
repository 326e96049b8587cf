"""The released design: views agree where they overlap, and only the head learns."""

import functools

import pytest
import torch
from tests.segmentation.run import SIDE, network
from tests.segmentation.test_s2uniseg import fitted

from primum.segmentation.agg_sample import AggSampleModule
from primum.segmentation.data.datamodule import ImageData
from primum.segmentation.data.multicrop import MultiCrop
from primum.segmentation.data.scenes import Scenes
from primum.segmentation.monitors import Health
from primum.segmentation.objectives.dense_distillation import overlap, sampled, spread
from primum.segmentation.pseudo_masks import UniapProposals


def test_two_views_of_one_image_read_the_same_where_they_overlap() -> None:
    rows = torch.linspace(0, 1, 65)[:-1, None] + 0.5 / 64
    columns = torch.linspace(0, 1, 65)[None, :-1] + 0.5 / 64
    image = torch.stack([rows.expand(64, 64), columns.expand(64, 64)])[None]
    boxes = torch.tensor([[0.0, 0.25, 0.5, 1.0], [0.25, 0.0, 0.75, 0.5]])
    views = []
    for (left, top, right, bottom), flip in zip(
        (boxes * 64).int().tolist(), (True, False), strict=True
    ):
        view = image[:, :, top:bottom, left:right]
        views.append(view.flip(-1) if flip else view)
    region, shared = overlap(boxes[:1], boxes[1:])
    assert shared.all() and region.tolist() == [[0.25, 0.25, 0.5, 0.5]]
    first = sampled(views[0], boxes[:1], torch.tensor([True]), region, 4)
    second = sampled(views[1], boxes[1:], torch.tensor([False]), region, 4)
    torch.testing.assert_close(first, second)
    assert first[0, 1, 0].tolist() == pytest.approx([0.25 + 0.0625 * (i + 0.5) for i in range(4)])


def test_boxes_apart_do_not_overlap() -> None:
    _, shared = overlap(torch.tensor([[0.0, 0, 0.4, 1]]), torch.tensor([[0.4, 0, 1, 1]]))
    assert not shared.any()


def test_tokens_belong_to_the_cluster_they_look_like() -> None:
    clusters = torch.eye(3)[None]
    found = spread(5 * clusters[:, [2, 0]], clusters, torch.tensor([[True, True, False]]), 0.1)
    assert found[0, 1].argmax() == 0 and float(found[0, 0, 2]) == 0
    none = spread(clusters, clusters, torch.zeros(1, 3, dtype=torch.bool), 0.1)
    assert float(none.abs().sum()) == 0


@pytest.mark.seconds
def test_only_the_head_learns_and_its_loss_falls() -> None:
    data = ImageData(
        functools.partial(Scenes, 8, 5, SIDE), MultiCrop(SIDE, 32, 2), batch_size=4, seed=3
    )
    made = AggSampleModule(
        network(),
        UniapProposals("author_code", {"thresholds": (0.6,)}, 20, 0, centre=True),
        functools.partial(torch.optim.AdamW, lr=1e-2),
        momentum=1.0,
        side=SIDE,
    )
    before = {name: value.clone() for name, value in made.state_dict().items()}
    trainer = fitted(made, data, max_steps=25, overfit_batches=1, callbacks=[Health(every=5)])
    trace = [loss for _, loss in trainer.callbacks[1].trace]  # type: ignore[attr-defined]
    assert sum(trace[-3:]) < 0.97 * sum(trace[:3]), trace
    for name, value in made.state_dict().items():
        still = name.startswith(("encoder.", "teacher."))
        assert torch.equal(value, before[name]) == still, name
    assert made.label(torch.zeros(3, 50, 70, dtype=torch.uint8)).shape == (50, 70)
