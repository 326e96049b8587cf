"""Ranges in Hydra's sweep grammar become Optuna's distributions."""

import pytest

from primum.entry.arguments import read
from primum.entry.search import distribution, split_space
from primum.errors import UserError

optuna = pytest.importorskip("optuna")
D = optuna.distributions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0.1, 0.9)", D.FloatDistribution(0.1, 0.9)),
        ("int(interval(1, 8))", D.IntDistribution(1, 8)),
        ("tag(log, interval(1e-5, 1e-3))", D.FloatDistribution(1e-5, 1e-3, log=True)),
        ("choice(a, b)", D.CategoricalDistribution(["a", "b"])),
        ("8,16", D.CategoricalDistribution([8, 16])),
        ("range(1, 9, 2)", D.IntDistribution(1, 7, step=2)),
    ],
)
def test_a_range_becomes_a_distribution(text: str, expected: object) -> None:
    assert distribution("key", text) == expected


def test_a_single_value_is_refused() -> None:
    with pytest.raises(UserError, match="not a range"):
        distribution("key", "3")


def test_typed_ranges_join_the_space() -> None:
    typed = read(["experiment=a/b", "x=interval(1,2)", "seed=3", "y=1,2"], "train")
    shared, ranges = split_space(typed)
    assert ranges == ["x=interval(1,2)", "y=1,2"]
    assert shared.overrides == ("seed=3", "+experiment=a/b")
