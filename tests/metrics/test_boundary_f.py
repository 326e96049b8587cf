"""Boundary matching against the assignment of SciPy, and on cases with known answers."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from primum.metrics.boundary_f import BoundaryF, boundary, boundary_counts, matched


@pytest.mark.parametrize("seed", range(6))
def test_the_matching_is_as_large_as_an_assignment_can_make_it(seed: int) -> None:
    draw = np.random.default_rng(seed)
    first, second = draw.random((2, 14, 11)) < 0.15
    ours, theirs = matched(first, second, 2.3)
    points = [np.argwhere(one) for one in (first, second)]
    near = np.linalg.norm(points[0][:, None] - points[1][None], axis=2) <= 2.3
    rows, columns = linear_sum_assignment(near, maximize=True)
    assert ours.sum() == theirs.sum() == near[rows, columns].sum()
    assert not (ours & ~first).any() and not (theirs & ~second).any()


def test_a_shift_within_tolerance_is_forgiven_and_a_larger_one_is_not() -> None:
    truth = (np.arange(200)[None] >= 100).repeat(150, 0).astype(int)
    for shift, expected in ((0, 1.0), (1, 1.0), (8, 0.0)):
        moved = (np.arange(200)[None] >= 100 + shift).repeat(150, 0).astype(int)
        metric = BoundaryF()  # 0.0075 of a diagonal of 250 is 1.9 pixels
        metric.update(torch.from_numpy(moved)[None], [torch.from_numpy(truth)])
        assert metric.compute()["boundary_ods"].value == expected


def test_annotators_who_disagree_share_what_was_drawn() -> None:
    one, other = np.zeros((2, 40, 40), int)
    one[:, 20:], other[20:] = 1, 1
    counts = boundary_counts(np.stack([one]), [one, other])
    assert counts.right[0] == counts.drawn[0] == 40
    assert counts.truth[0] == 80 and 40 <= counts.found[0] < 50
    assert boundary(np.zeros((3, 3), int)).sum() == 0
