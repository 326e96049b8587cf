"""What a wider forward costs on this device, measured before it is relied on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from primum.parsing.decoding.loop import steps_for
from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.decoding.steps import ChainSteps
from primum.parsing.speculation.tree import Tree

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
ENOUGH = 2.0  # seconds of forwards that count: a slow model needs no more rounds


@torch.no_grad()
def measure(
    model: Any, sequences: Sequence[Prefilled], widths: Sequence[int] = WIDTHS, repeats: int = 5
) -> dict[int, float]:
    """Seconds of a forward by number of new tokens a sequence: medians, the widths in turn.

    Args:
        sequences: Prefilled prompts of the usual length, as many as are decoded at once; their
            caches are left as they were.
        repeats: Rounds that count; fewer where they take long.
    """
    steps = steps_for(model, sequences)
    taken: dict[int, list[float]] = {width: [] for width in widths}
    roots = [0] * len(sequences)
    for repeat in range(repeats + 1):
        for width in widths:
            began = time.perf_counter()
            logits = steps.verify(roots, [chain(np.zeros(width, dtype=np.int64))] * len(roots))
            logits[-1].argmax(-1).cpu()  # waits for the device
            seconds = time.perf_counter() - began
            if isinstance(steps, ChainSteps):
                steps.cache.crop(-width)
            if repeat:  # the first round warms up
                taken[width].append(seconds)
        if sum(map(sum, taken.values())) > ENOUGH:
            break
    return {width: median(values) for width, values in taken.items()}


def chain(tokens: np.ndarray) -> Tree:
    """Tokens one after another, the pending one first."""
    line = np.arange(len(tokens))
    return Tree(
        tokens,
        np.maximum(line - 1, 0),
        line,
        np.ones(len(tokens)),
        np.full(len(tokens), -1),
        np.tri(len(tokens), dtype=bool),
    )
