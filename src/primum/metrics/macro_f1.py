"""The mean over classes of F1: a majority guess cannot hide in it."""

from collections.abc import Sequence

import numpy as np

from primum.metrics.score import CONFIDENCE, Score

DRAWS = 2_000


def macro_f1(
    truth: Sequence[str], said: Sequence[str], name: str = "macro F1", *, protocol: str = ""
) -> Score:
    """Unweighted mean of F1 over the classes that occur in `truth`; other words are plain misses.

    The interval is a percentile bootstrap over cases with a fixed seed.

    >>> print(macro_f1(["yes", "yes", "no", "no"], ["yes", "no", "no", "no"]))
    73.3 % [20.0, 100.0], n = 4
    """
    if len(truth) != len(said):
        raise ValueError(f"{len(truth)} labels against {len(said)}")
    if not truth:
        return Score.unavailable(name, "no cases", True, "proportion")
    classes = sorted(set(truth))
    index = {label: number for number, label in enumerate(classes)}
    pairs = [(index[a], index.get(b, len(classes))) for a, b in zip(truth, said, strict=True)]
    table = np.zeros((len(classes), len(classes) + 1))
    np.add.at(table, tuple(np.array(pairs).T), 1)
    draws = np.random.default_rng(0).multinomial(len(truth), table.ravel() / len(truth), DRAWS)
    value = float(_of(table[None])[0])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(_of(draws.reshape(DRAWS, *table.shape)), [tail, 100 - tail])
    how = f"mean F1 of {', '.join(classes)}; 95 % percentile bootstrap over cases ({DRAWS} draws)"
    how = "; ".join(filter(None, [protocol, how]))
    return Score(name, value, float(low), float(high), len(truth), how, True, "proportion")


def _of(tables: np.ndarray) -> np.ndarray:
    """Macro F1 of confusion tables (draws, true class, said class or other)."""
    square = tables[:, :, :-1]
    hits = np.diagonal(square, axis1=1, axis2=2)
    total = tables.sum(2) + square.sum(1)
    return (2 * hits / np.maximum(total, 1)).mean(1)
