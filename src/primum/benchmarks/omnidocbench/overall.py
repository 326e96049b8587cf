"""One figure for everything: the mean of four distances in 1.0, of three scores in 1.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from primum.metrics.resampling import resampled_score
from primum.metrics.score import Score

Figure = Callable[[np.ndarray], np.ndarray]


def page_mean(records: Sequence[Mapping[str, Any]], name: str) -> Figure:
    """Mean over weighted pages of edits / length; pages without any are left out."""
    counts = np.array([record[name] for record in records], float).reshape(-1, 2)
    there = counts[:, 1] > 0
    ratios = np.divide(counts[:, 0], counts[:, 1], out=np.zeros(len(counts)), where=there)
    return weighted_ratio(ratios, there.astype(float))


def item_mean(items: Sequence[Sequence[float]]) -> Figure:
    """Mean over all items of weighted pages."""
    return weighted_ratio(
        np.array([sum(page) for page in items], float), np.array([len(page) for page in items])
    )


def weighted_ratio(above: np.ndarray, below: np.ndarray) -> Figure:
    """Weighted sum over weighted sum; NaN where there is nothing."""

    def figure(weights: np.ndarray) -> np.ndarray:
        size = weights @ below
        return np.divide(weights @ above, size, out=np.full(len(weights), np.nan), where=size > 0)

    return figure


def overall_1_0(records: Sequence[Mapping[str, Any]], language: str, protocol: str) -> Score:
    """Mean edit distance of text, formulas, tables and reading order, of one language's pages."""
    name = f"overall, {language}"
    if not records:
        return Score.unavailable(name, f"no pages in {language}", False)
    parts = [page_mean(records, part) for part in ("text", "formula", "table", "order")]
    return resampled_score(
        name,
        len(records),
        lambda weights: np.mean([part(weights) for part in parts], axis=0),
        f"{protocol}; mean of the four edit distances",
        higher_is_better=False,
        unit="",
    )


def overall_1_5(
    records: Sequence[Mapping[str, Any]],
    formula_f1: Sequence[Sequence[float]] | None,
    protocol: str,
    reason: str,
) -> dict[str, Score]:
    """Formula CDM and the overall score that rests on it, or why they cannot be had.

    Args:
        records: One a page.
        formula_f1: CDM of each page's formulas, or None.
        protocol: Its name.
        reason: Why there is no CDM.
    """
    text = page_mean(records, "text")
    tables = item_mean([[row["teds"] for row in record["tables"]] for record in records])
    formula = page_mean(records, "formula")

    def with_(formulas: Figure) -> Figure:
        return lambda weights: (
            (100 * (1 - text(weights)) + 100 * tables(weights) + 100 * formulas(weights)) / 3
        )

    scores = {
        "overall_formula_edit": resampled_score(
            "overall with formula edit distance (not the leaderboard's)",
            len(records),
            with_(lambda weights: 1 - formula(weights)),
            f"{protocol}; ((1 - text edit) + TEDS + (1 - formula edit)) * 100 / 3: the official "
            "overall has CDM in the third place",
            unit="",
        )
    }
    if formula_f1 is None:
        return {
            "formula_cdm": Score.unavailable("formulas, CDM", reason, True, "proportion"),
            "overall": Score.unavailable("overall", reason, True),
            **scores,
        }
    cdm = item_mean(formula_f1)
    return {
        "formula_cdm": resampled_score(
            "formulas, CDM", len(records), cdm, f"{protocol}; mean F1 over formulas"
        ),
        "overall": resampled_score(
            "overall",
            len(records),
            with_(cdm),
            f"{protocol}; ((1 - text edit) + TEDS + CDM) * 100 / 3",
            unit="",
        ),
        **scores,
    }
