"""Do raters agree? Krippendorff's alpha with gaps, and the intraclass correlation without."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from primum.metrics.score import CONFIDENCE, Score

Level = Literal["nominal", "ordinal", "interval"]
DRAWS = 1_000


def krippendorff_alpha(
    ratings: Sequence[Sequence[float | None]], level: Level = "ordinal", name: str = ""
) -> Score:
    """Krippendorff's alpha (2011) of units by raters; None where a rater did not rate.

    The interval is a percentile bootstrap over units with a fixed seed.

    Raises:
        ValueError: Rows are of different length.

    >>> table = [[1, 1], [2, 2], [3, 3], [3, 4], [4, 4], [5, 5], [1, 2], [2, 2]]
    >>> print(krippendorff_alpha(table, "interval"))
    0.931 [0.688, 1.000], n = 8
    """
    name = name or f"Krippendorff's alpha ({level})"
    table = _array(ratings)
    table = table[(~np.isnan(table)).sum(1) >= 2] if table.size else table
    if len(table) == 0:
        return Score.unavailable(name, "no unit was rated twice", True)
    values = np.unique(table[~np.isnan(table)])
    if len(values) == 1:
        return Score.unavailable(name, "every rating is the same, chance explains all", True)
    per_unit = (table[:, :, None] == values).sum(1).astype(float)  # (units, values)

    def alpha(counts: np.ndarray) -> float:
        sizes = counts.sum(1)
        pairs = counts[:, :, None] * counts[:, None, :]
        pairs[:, np.arange(len(values)), np.arange(len(values))] -= counts
        together = (pairs / (sizes - 1)[:, None, None]).sum(0)  # the coincidence matrix
        margin = together.sum(1)
        distance = _distances(values, margin, level)
        expected = (np.outer(margin, margin) * distance).sum() / (margin.sum() - 1)
        return float(1 - (together * distance).sum() / expected) if expected else np.nan

    return _bootstrapped(per_unit, alpha, name, f"{len(table)} units, {table.shape[1]} raters")


def _distances(values: np.ndarray, margin: np.ndarray, level: Level) -> np.ndarray:
    """Squared distance of every two values."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return (values[:, None] - values[None]) ** 2
    upto = np.cumsum(margin)
    middle = upto - margin / 2  # ordinal: how many ratings lie between, half of the ends' own
    return (middle[:, None] - middle[None]) ** 2


def intraclass_correlation(
    ratings: Sequence[Sequence[float | None]], name: str = "ICC(2,k)"
) -> Score:
    """ICC(2,k) of Shrout and Fleiss (1979): absolute agreement of the mean of k random raters.

    Units with a missing rating are left out. Percentile bootstrap over units with a fixed seed.

    >>> table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9]]
    >>> table.append([6, 2, 4, 7])
    >>> round(intraclass_correlation(table).value, 2)
    0.62
    """
    table = _array(ratings)
    table = table[~np.isnan(table).any(1)] if table.size else table
    if len(table) < 2 or table.shape[1] < 2:
        return Score.unavailable(name, "fewer than two units that all raters rated", True)

    def icc(rows: np.ndarray) -> float:
        n, k = rows.shape
        mean = rows.mean()
        between = k * ((rows.mean(1) - mean) ** 2).sum() / (n - 1)
        raters = n * ((rows.mean(0) - mean) ** 2).sum() / (k - 1)
        residual = ((rows - rows.mean(1, keepdims=True) - rows.mean(0) + mean) ** 2).sum()
        error = residual / ((n - 1) * (k - 1))
        below = between + (raters - error) / n
        return float((between - error) / below) if below else np.nan

    how = f"two-way random, absolute agreement, mean of {table.shape[1]} raters"
    return _bootstrapped(table, icc, name, how)


def _array(ratings: Sequence[Sequence[float | None]]) -> np.ndarray:
    if len({len(row) for row in ratings}) > 1:
        raise ValueError("every unit has one place for each rater")
    return np.array([[np.nan if one is None else one for one in row] for row in ratings], float)


def _bootstrapped(
    rows: np.ndarray, figure: Callable[[np.ndarray], float], name: str, how: str
) -> Score:
    draw = np.random.default_rng(0)
    picks = draw.integers(len(rows), size=(DRAWS, len(rows)))
    drawn = np.array([figure(rows[pick]) for pick in picks])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    how = f"{how}; 95 % percentile bootstrap over units ({DRAWS} draws)"
    value = figure(rows)
    if np.isnan(value):
        return Score.unavailable(name, "no variation between units", True)
    return Score(name, value, float(low), float(high), len(rows), how, True)
