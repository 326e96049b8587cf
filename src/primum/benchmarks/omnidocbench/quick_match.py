"""Blocks matched to a prediction that breaks them differently: runs of pieces, shared pieces.

The steps and their thresholds are the published scorer's (`quick_match` of OmniDocBench); it keeps
a timeout besides, which this one is quick enough to do without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from primum.benchmarks.omnidocbench.annotations import FORMULA, IGNORED, Block
from primum.benchmarks.omnidocbench.extraction import Element
from primum.benchmarks.omnidocbench.lines import (
    Guess,
    Rules,
    Truth,
    best_inside,
    distance,
    distances,
    guesses_of,
    truths_of,
)
from primum.benchmarks.omnidocbench.pairs import Pair, paired
from primum.benchmarks.omnidocbench.runs import Run, compatible_runs

SURE = 0.25  # closer than this is a match at once
HOPELESS = 0.7  # further than this is none
PART = 0.6  # a run grows by pieces that are this close to some window of the block
SHARED = 0.4  # a block this close to a window of a piece is part of it
ARRAY = re.compile(r"\\begin\{array\}\{(?P<columns>[^}]*)\}(?P<body>.*?)\\end\{array\}", re.DOTALL)


def quick_match(blocks: Sequence[Block], elements: Sequence[Element], rules: Rules) -> list[Pair]:
    """A pair for every scored block or group of blocks; ignored blocks are matched and dropped."""
    if rules.version != "1.0":
        blocks = [line for block in blocks for line in formula_lines(block)]
        elements = sorted(elements, key=lambda element: (element.inline, element.start))
        elements = [line for element in elements for line in element_lines(element)]
    truths, guesses = truths_of(blocks, rules), guesses_of(elements, rules)
    if len(truths) == len(guesses) == 1:
        return scored([paired(truths, guesses, version=rules.version)])
    if rules.version != "1.0" and guesses:
        truths, guesses = without_ignored(truths, guesses)
    groups = grouped(truths, guesses)
    pairs = [
        paired([truths[i] for i in own], [guesses[j] for j in run], version=rules.version)
        for run, own in groups
        if own
    ]
    met = {index for _, own in groups for index in own}
    missed = [paired([one], []) for index, one in enumerate(truths) if index not in met]
    if rules.version == "1.0" and rules.compat and guesses:
        left = set(range(len(guesses))) - {index for run, _ in groups for index in run}
        # the older code lists what was missed twice, unless some of the prediction is left over
        missed *= 1 if left else 2
    return scored(pairs + missed)


def scored(pairs: Sequence[Pair]) -> list[Pair]:
    """Without captions, headers and the like."""
    return [pair for pair in pairs if pair.category not in IGNORED]


def without_ignored(
    truths: Sequence[Truth], guesses: Sequence[Guess]
) -> tuple[list[Truth], list[Guess]]:
    """Drop ignored blocks together with whatever the prediction surely has for them."""
    ignored = [truth.normal for truth in truths if truth.category in IGNORED]
    found = distances(ignored, [guess.normal for guess in guesses]) < SURE
    taken = np.any(found, axis=0).tolist()
    return (
        [truth for truth in truths if truth.category not in IGNORED],
        [guess for guess, gone in zip(guesses, taken, strict=True) if not gone],
    )


def grouped(truths: Sequence[Truth], guesses: Sequence[Guess]) -> list[tuple[Run, list[int]]]:
    """Runs of pieces, each with the blocks it was matched to; runs without a block come too."""
    wanted, given = [truth.normal for truth in truths], [guess.normal for guess in guesses]
    groups: dict[Run, list[int]] = {}
    left = []
    found = with_joined_runs(wanted, given)
    for index in range(len(wanted)):
        if index in found:
            groups.setdefault(found[index], []).append(index)
        else:
            left.append(index)
    placed = set(found)
    for at, piece in enumerate(given):
        inside = [index for index in left if is_inside(piece, wanted[index])]
        if inside:
            own = groups.setdefault((at,), [])
            own += [index for index in inside if index not in placed]
            placed.update(inside)
    # sets, not sorted lists: among equally cheap pairings the solver's choice depends on the order
    missed = list(set(range(len(wanted))) - set().union(*groups.values()))
    spare = list(set(range(len(given))) - {index for run in groups for index in run})
    rest = distances([wanted[i] for i in missed], [given[j] for j in spare])
    rows, columns = linear_sum_assignment(rest)
    last = {(spare[j],): [missed[i]] for i, j in zip(rows, columns, strict=True)}
    return [*((run, sorted(own)) for run, own in groups.items()), *last.items()]


def with_joined_runs(wanted: Sequence[str], given: Sequence[str]) -> dict[int, Run]:
    """Truth -> run of pieces by the Hungarian method, where that is not hopeless."""
    costs = distances(wanted, given)
    runs = compatible_runs(best_runs(wanted, given, costs))
    pieces: list[Run] = [(at,) for at in range(len(given))]
    for run in runs:
        at = pieces.index((run[0],))
        pieces[at : at + len(run)] = [run]
    if runs:
        costs = distances(wanted, [" ".join(given[at] for at in piece) for piece in pieces])
    rows, columns = linear_sum_assignment(costs)
    return {
        row: pieces[column]
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if costs[row, column] <= HOPELESS
    }


def best_runs(
    wanted: Sequence[str], given: Sequence[str], costs: np.ndarray
) -> list[tuple[Run, float]]:
    """For every block without a sure match, the run of free pieces that fits it best."""
    sure = costs < SURE
    free = np.flatnonzero(~sure.any(axis=0)).tolist()
    found = []
    for index in np.flatnonzero(~sure.any(axis=1)).tolist():
        runs = [grown(wanted[index], given, start, set(free)) for start in free]
        if runs:
            fits = [distance(wanted[index], " ".join(given[at] for at in run)) for run in runs]
            best = int(np.argmin(fits))
            found.append((runs[best], fits[best]))
    return found


def grown(truth: str, given: Sequence[str], start: int, free: set[int]) -> Run:
    """The run from `start` on, as long as each further piece brings it nearer to the block."""
    stop = start + 1
    while stop in free:
        now, longer = " ".join(given[start:stop]), " ".join(given[start : stop + 1])
        if distance(truth, longer) > distance(truth, now):
            break
        parts = [best_inside(truth, given[at], PART) for at in range(start, stop)]
        if any(part is None or part > PART for part in parts):
            break
        last = best_inside(truth, given[stop], PART)
        if last is None or last >= PART:
            break
        stop += 1
        if len(longer) > len(truth):
            break
    return tuple(range(start, stop))


def is_inside(piece: str, truth: str) -> bool:
    """Whether a piece holds a block that was not matched otherwise."""
    found = best_inside(piece, truth, SHARED)
    return found is not None and found < SHARED


def formula_lines(block: Block) -> list[Block]:
    """The lines of an annotated array of one column, as formulas of their own."""
    match = ARRAY.search(block.content) if block.category == FORMULA else None
    if match is None or not one_column(match["columns"]):
        return [block]
    lines = [line.strip() for line in match["body"].split(r"\\") if line.strip()]
    order = block.order or 0
    return [
        replace(block, content=rf"\[{line}\]", order=round(order + number / 10, 1))
        for number, line in enumerate(lines, 1)
    ]


def element_lines(element: Element) -> list[Element]:
    """The lines of a predicted array of one column, each with its place."""
    match = ARRAY.search(element.content) if element.kind == "formula" else None
    if match is None or not one_column(match["columns"]):
        return [element]
    found, at = [], 0
    for line in match["body"].split(r"\\"):
        line = line.strip()
        if line:
            here = match["body"].index(line, at)
            at = here + len(line)
            start = element.start + match.start("body") + here
            found.append(replace(element, content=rf"\[{line}\]", start=start))
    return found


def one_column(columns: str) -> bool:
    """Whether an array's column format has a single column.

    >>> one_column("{l}"), one_column("| c |"), one_column("cc")
    (False, True, False)
    """
    return re.sub(r"\s+|\||@{[^}]*}|!{[^}]*}", "", columns) in {"l", "c", "r"}
