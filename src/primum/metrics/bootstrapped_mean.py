"""A plain mean over things that are no shares, with the bootstrap over those things."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primum.metrics.resampling import DRAWS, image_weights, percentile_interval
from primum.metrics.score import Score


def bootstrapped_mean(
    values: Sequence[float] | np.ndarray,
    name: str,
    what: str,
    *,
    protocol: str = "",
    higher_is_better: bool | None = None,
    unit: str = "",
) -> Score:
    """The mean of `values` as a score.

    Args:
        values: One a thing.
        name: What was measured.
        what: What the things are, in the plural.
        protocol: How each value was made.

    >>> print(bootstrapped_mean([0.0, 0.6], "text", "pages"))
    0.300 [0.000, 0.600], n = 2
    """
    # sorted, so that the interval is the same whichever rank saw what
    given = np.sort(np.asarray(values, dtype=np.float64))
    if not len(given):
        return Score.unavailable(name, f"no {what}", higher_is_better, unit)
    low, high = percentile_interval(image_weights(len(given)) @ given / len(given))
    how = f"mean over {what}, 95 % percentile bootstrap over {len(given)} {what} ({DRAWS} draws)"
    how = "; ".join(filter(None, [protocol, how]))
    return Score(name, float(given.mean()), low, high, len(given), how, higher_is_better, unit)
