"""An output that repeats itself: found afterwards, or while it is being written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

T = TypeVar("T")
REPEATS = 5  # repetitions at the end that count as a loop
SHORTEST = 40  # tokens that they are together, at least: a row of dots is no loop
PERIOD = 200  # tokens of what is repeated, at most
EVERY = 16  # tokens between two looks


def loop_at_end(tokens: Sequence[Any]) -> int:
    """Tokens of the passage that an output ends in again and again; 0 where it does not.

    >>> loop_at_end([1, 2, 3] + [7, 8] * 20), loop_at_end([1, 2, 3] + [7, 8] * 6)
    (2, 0)
    """
    for period in range(1, min(PERIOD, len(tokens) // REPEATS) + 1):
        times = max(REPEATS, -(-SHORTEST // period))
        if list(tokens[-period * times :]) == list(tokens[-period:]) * times:
            return period
    return 0


def without_loop(tokens: Sequence[T]) -> list[T]:
    """What repeats at the end is kept once.

    >>> without_loop([1, 2, 3] + [7, 8] * 20)
    [1, 2, 3, 7, 8]
    """
    kept = list(tokens)
    if period := loop_at_end(kept):
        while kept[-period:] == kept[-2 * period : -period]:
            del kept[-period:]
    return kept


class StopLoops:
    """A stopping criterion of `generate`: ends an output that has begun to repeat itself."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        length = input_ids.shape[1]
        stop = [
            length % EVERY == 0 and loop_at_end(row[-PERIOD * REPEATS :].tolist()) > 0
            for row in input_ids
        ]
        return torch.tensor(stop, device=input_ids.device)
