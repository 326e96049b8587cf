"""The definition against an independent oracle: other formulas, other libraries."""

import itertools

import numpy as np
import pytest
import torch
from tests.kernels.oracle import uniap
from tests.kernels.scenes import comb, noise, smooth, spiral, uniform

from primum_kernels.agglomeration import PRESETS, agglomerate

SCENES = {
    "smooth": smooth(7, 10, 12, 0),
    "smooth tall": smooth(13, 5, 9, 1),
    "noise": noise(6, 7, 16, 2),
    "row": smooth(1, 19, 8, 3),
    "column": smooth(17, 1, 8, 4),
    "one token": noise(1, 1, 5, 5),
    "spiral": spiral(9),
    "comb": comb(8),
    "uniform": uniform(6, 5),
}
OPTIONS = {
    **PRESETS,
    **{
        f"{pooling} {linkage} {rounds} {similarity}": dict(
            pooling=pooling, linkage=linkage, rounds=rounds, similarity=similarity, semantic=True
        )
        for pooling, linkage, rounds, similarity in itertools.product(
            ("vote", "mean", "sum"), ("components", "reciprocal"), (2, "until-stable"),
            ("paper", "feature"),
        )
    },
    "sharp vote": dict(vote_norm="sum", semantic=True),
    "vote inside": dict(vote_scope="region", voters=2),
    "sharp vote inside": dict(vote_scope="region", vote_norm="sum", rounds="until-stable"),
    "few semantic": dict(semantic=True, max_semantic=3, strict=True),
}  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
def test_reference_equals_the_oracle(scene: str) -> None:
    image, scored, doubtful = SCENES[scene], 0, 0
    for name, options in OPTIONS.items():
        expected = uniap(image, band=1e-9, **options)
        scored, doubtful = scored + expected.scored, doubtful + expected.doubtful
        if expected.doubtful:
            continue
        found = agglomerate(torch.from_numpy(image)[None], **options, backend="reference")
        labels = found.labels.flatten(2)[:, 0].numpy()
        np.testing.assert_array_equal(labels, np.stack(expected.labels), name)
        if options.get("semantic"):
            assert found.semantic is not None
            semantic = found.semantic.flatten(2)[:, 0].numpy()
            np.testing.assert_array_equal(semantic, np.stack(expected.semantic), name)
    assert doubtful <= 1e-3 * scored
