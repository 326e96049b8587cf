"""One block, one piece of the prediction: the cheapest such pairing of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from primum.benchmarks.omnidocbench.lines import Guess, Rules, Truth, distances
from primum.benchmarks.omnidocbench.pairs import Pair, paired


def assign(truths: Sequence[str], guesses: Sequence[str]) -> dict[int, int]:
    """Truth -> guess by the Hungarian method on edit distances; the shorter side is used up."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(distances(truths, guesses))
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def simple_match(truths: Sequence[Truth], guesses: Sequence[Guess], rules: Rules) -> list[Pair]:
    """A pair for every block, in their order; some find nothing."""
    found = assign([truth.normal for truth in truths], [guess.normal for guess in guesses])
    pairs = []
    for index, truth in enumerate(truths):
        pair = paired(
            [truth], [guesses[found[index]]] if index in found else [], version=rules.version
        )
        if rules.compat and found.get(index) == 0 and guesses:
            # to the published scorer the first piece of a prediction has no place and no kind
            pair = replace(pair, place=None, as_formula=True)
        pairs.append(pair)
    return pairs
