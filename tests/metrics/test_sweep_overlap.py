"""Orders of a sweep's regions, against masks laid over each other pixel by pixel."""

import numpy as np
import pytest

from primum.metrics.sweep_overlap import APART, RANKS, SweepRegion, distinct_regions, ordered


def sweep(seed: int) -> np.ndarray:
    """Three partitions of 12 x 14 that share some regions and nearly share others."""
    draw = np.random.default_rng(seed)
    coarse = np.add.outer(np.arange(12) // 6 * 2, np.arange(14) // 7)
    fine = np.where(draw.random((12, 14)) < 0.1, 4, coarse)
    return np.stack([np.add.outer(np.arange(12) // 3 * 5, np.arange(14) // 3), fine, coarse])


def overlap(partitions: np.ndarray, one: SweepRegion, other: SweepRegion) -> float:
    first, second = (partitions[r.scale] == r.label for r in (one, other))
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("seed", range(3))
def test_apart_leaves_out_near_duplicates_and_nothing_else(seed: int) -> None:
    partitions = sweep(seed)
    found = ordered(partitions, 1000)
    everything = distinct_regions(partitions)
    for name, key in RANKS.items():
        assert found[name] == sorted(everything, key=key)
        expected: list[SweepRegion] = []
        for region in found[name]:
            if all(overlap(partitions, region, earlier) <= APART for earlier in expected):
                expected.append(region)
        assert found[f"{name}_apart"] == expected
        assert len(expected) < len(everything)


def test_no_more_regions_than_asked_for() -> None:
    assert {len(found) for found in ordered(sweep(0), 4).values()} == {4}
