"""Propose, verify, walk, keep: the decoding loop over one or several sequences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from primum.parsing.decoding.graphs import can_be_fixed, fixed_steps
from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.decoding.rules import Rules
from primum.parsing.decoding.steps import ChainSteps, Steps, TreeSteps, can_take_trees
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.speculation.trace import Trace
from primum.parsing.speculation.tree import bare

Seen = Callable[[list[int]], None]


@dataclass
class Row:
    """One sequence in the loop.

    Args:
        rules: How its tokens are chosen and when it ends.
        speculator: Where its trees come from, started on its drafts; None decodes plainly.
        trace: What happened.
        seen: Called with the tokens of every step.
    """

    rules: Rules
    speculator: Speculator | None
    trace: Trace
    seen: Seen | None = None

    @property
    def pending(self) -> int:
        """The last decoded token, which the model has not read yet."""
        return self.rules.output[-1]


def row(sequence: Prefilled, speculator: Speculator | None, tolerance: float = 1.0) -> Row:
    """A sequence and where its trees come from."""
    names = [str(claim) for claim in speculator.claims] if speculator else []
    return Row(Rules(sequence, tolerance), speculator, Trace(names))


def steps_for(model: Any, sequences: Sequence[Prefilled]) -> Steps:
    """Trees where the model can take them, else chains, one sequence at a time.

    On a GPU the shapes are fixed and captured.
    """
    if all(can_take_trees(model, sequence) for sequence in sequences):
        if can_be_fixed(sequences):
            return fixed_steps(model, sequences, capture=True)
        return TreeSteps(model, sequences)
    (sequence,) = sequences
    return ChainSteps(model, sequence)


@torch.no_grad()
def decode(model: Any, sequences: Sequence[Prefilled], rows: Sequence[Row]) -> Steps:
    """Decode until every row is finished. The tokens are in the rows' rules.

    Raises:
        ValueError: Several sequences of a model that only takes chains.
    """
    active = list(rows)
    for one, sequence in zip(active, sequences, strict=True):
        if not one.rules.finished:
            tree = bare()
            found = one.rules.choose(tree, sequence.logits[None])
            _tell(one, found.tokens, 0, 0.0)
    steps = steps_for(model, sequences)
    active = _unfinished(steps, active)
    while active:
        began = time.perf_counter()
        trees = [_tree(one, steps.trees) for one in active]
        logits = steps.verify([one.pending for one in active], trees)
        walks = [
            one.rules.choose(tree, scores)
            for one, tree, scores in zip(active, trees, logits, strict=True)
        ]
        steps.keep([found.nodes for found in walks])
        seconds = time.perf_counter() - began
        for one, tree, found in zip(active, trees, walks, strict=True):
            one.trace.add(tree, found.nodes, len(found.tokens), seconds)
            _tell(one, found.tokens, len(tree) - 1, seconds)
        active = _unfinished(steps, active)
    return steps


def _tree(one: Row, trees: bool) -> Any:
    if one.speculator is None:
        return bare()
    # The last token that fits is the model's own: drafts need one place less.
    room = one.rules.room - len(one.rules.output) - 1
    return one.speculator.propose(room=room, chain=not trees)


def _tell(one: Row, tokens: list[int], nodes: int, seconds: float) -> None:
    if one.seen is not None:
        one.seen(tokens)
    if one.speculator is not None:
        one.speculator.push(tokens, nodes, seconds)


def _unfinished(steps: Steps, rows: list[Row]) -> list[Row]:
    going = [number for number, one in enumerate(rows) if not one.rules.finished]
    if going and len(going) < len(rows):
        steps.select(going)
    return [rows[number] for number in going]
