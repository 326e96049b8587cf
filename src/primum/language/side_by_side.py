"""On a CPU, short prompts are read one by one, each core its own.

Cores that share a short prompt wait for each other in every layer, and a batch is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Read = TypeVar("Read")


def side_by_side(read: Callable[[Piece], Read], pieces: Sequence[Piece]) -> list[Read]:
    """What `read` makes of each piece without gradients, in order; one thread a piece.

    >>> side_by_side(lambda piece: (piece, torch.is_inference_mode_enabled()), [1, 2])
    [(1, True), (2, True)]
    """
    threads = torch.get_num_threads()

    def alone(piece: Piece) -> Read:
        torch.set_num_threads(1)  # of this thread, and of threads that begin later
        with torch.inference_mode():
            return read(piece)

    try:
        with ThreadPoolExecutor(min(threads, len(pieces))) as pool:
            return list(pool.map(alone, pieces))
    finally:
        torch.set_num_threads(threads)
