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


@torch.no_grad()
def measure(
    model: Any, sequence: Prefilled, widths: Sequence[int] = WIDTHS, repeats: int = 5
) -> dict[int, float]:
    """Seconds of a forward by number of new tokens: medians, the widths in turn.

    Args:
        sequence: A prefilled prompt of the usual length; its cache is left as it was.
    """
    steps = steps_for(model, [sequence])
    taken: dict[int, list[float]] = {width: [] for width in widths}
    for repeat in range(repeats + 1):
        for width in widths:
            began = time.perf_counter()
            (logits,) = steps.verify([0], [chain(np.zeros(width, dtype=np.int64))])
            logits.argmax(-1).cpu()  # waits for the device
            seconds = time.perf_counter() - began
            if isinstance(steps, ChainSteps):
                steps.cache.crop(-width)
            if repeat:  # the first round warms up
                taken[width].append(seconds)
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
