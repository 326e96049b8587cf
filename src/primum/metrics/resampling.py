"""Intervals for figures that are no share of cases: draw images again, add up again."""

from collections.abc import Callable

import numpy as np

from primum.metrics.score import CONFIDENCE, Score

DRAWS = 2000


def image_weights(images: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, images) how often each image is in each bootstrap sample; the same every time."""
    chance = np.full(images, 1 / images)
    return np.random.default_rng(seed).multinomial(images, chance, size=draws).astype(np.float64)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap draws; draws without a value (NaN) are left out."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def resampled_score(
    name: str,
    images: int,
    figure: Callable[[np.ndarray], np.ndarray],
    protocol: str,
    *,
    draws: int = DRAWS,
    higher_is_better: bool | None = True,
    unit: str = "proportion",
) -> Score:
    """A figure of weighted images, with the percentile bootstrap over images as its interval.

    Args:
        name: What was measured.
        images: How many there are.
        figure: From weights (draws, images) to values (draws,); NaN where there is none.
        protocol: How it was made.
        draws: Bootstrap samples.

    >>> hits = np.array([1.0, 0.0, 1.0, 1.0])
    >>> print(resampled_score("hits", 4, lambda w: w @ hits / w.sum(1), "mean"))
    75.0 % [25.0, 100.0], n = 4
    """
    if images == 0:
        return Score.unavailable(name, "no images", higher_is_better, unit)
    value = float(figure(np.ones((1, images)))[0])
    if np.isnan(value):
        return Score.unavailable(name, "nothing to find", higher_is_better, unit)
    low, high = percentile_interval(figure(image_weights(images, draws)))
    how = f"{protocol}; 95 % percentile bootstrap over {images} images ({draws} draws)"
    return Score(name, value, low, high, images, how, higher_is_better, unit)


def ratio_of_sums(
    numerators: np.ndarray, denominators: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A figure for `resampled_score`: the sum of one column of images over that of another.

    Args:
        numerators, denominators: (images,) each.
    """

    def figure(weights: np.ndarray) -> np.ndarray:
        below = weights @ denominators
        return np.divide(
            weights @ numerators, below, out=np.full(len(weights), np.nan), where=below > 0
        )

    return figure


def paired_resampled_difference(
    name: str,
    images: int,
    first: Callable[[np.ndarray], np.ndarray],
    second: Callable[[np.ndarray], np.ndarray],
    protocol: str,
    *,
    draws: int = DRAWS,
) -> Score:
    """`first` minus `second` on the same images, both figures of every draw from the same sample.

    >>> a, b = np.array([0.5, 0.6, 0.7]), np.array([0.4, 0.5, 0.6])
    >>> mean = lambda column: lambda weights: weights @ column / weights.sum(1)
    >>> print(paired_resampled_difference("gain", 3, mean(a), mean(b), "mean"))
    10.0 points [10.0, 10.0], n = 3
    """
    return resampled_score(
        name,
        images,
        lambda weights: first(weights) - second(weights),
        f"{protocol}, paired by image",
        draws=draws,
        unit="points",
    )
