"""The definition against an independent oracle: other formulas, other libraries."""

import numpy as np
import pytest
import torch
from tests.kernels.oracle import uniap
from tests.kernels.scenes import OPTIONS, SCENES

from primum_kernels.agglomeration import agglomerate


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.seconds
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
