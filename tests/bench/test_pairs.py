"""Paired ratios are of pairs, and a failing side is named."""

import math
from pathlib import Path

import pytest

from primum.bench.pairs import in_turn, paired_ratio
from primum.errors import UserError


def test_ratio_is_the_geometric_mean_of_the_pairs() -> None:
    ratio = paired_ratio([2.0, 8.0], [1.0, 2.0])
    assert ratio.value == pytest.approx(math.sqrt(2.0 * 4.0))
    assert ratio.low <= ratio.value <= ratio.high
    assert (ratio.low, ratio.high) == pytest.approx((2.0, 4.0))


def test_what_slows_both_sides_of_a_pair_leaves_the_ratio_alone() -> None:
    calm, busy = paired_ratio([3.0] * 4, [2.0] * 4), paired_ratio([3, 0.3, 30, 3], [2, 0.2, 20, 2])
    assert busy.value == pytest.approx(calm.value)
    assert busy.high - busy.low == pytest.approx(0, abs=1e-9)


@pytest.mark.process
def test_a_failing_side_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)missing side.*No module named"):
        in_turn({"missing": "primum.bench.no_such_module"}, tmp_path, 1, {})
