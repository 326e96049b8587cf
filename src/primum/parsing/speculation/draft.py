"""A draft: text that the target may write, in the target's own tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Draft:
    """Pieces of text in the order in which the target is expected to write them.

    The order is a hint, not a promise: proposers find their place in it by what was decoded.

    Args:
        text: All pieces, what stands between them included.
        tokens: The same, (n,) int64.
        starts: (pieces,) int64, where in `tokens` each piece begins.
    """

    text: str
    tokens: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, pieces: Sequence[str], encode: Encode, between: str = "\n\n") -> "Draft":
        """Encode pieces, each with what stands behind it, so that joints read as in the output.

        >>> Draft.of(["ab", "", "c"], lambda text: [ord(x) for x in text], " ").starts.tolist()
        [0, 3]
        """
        texts = [piece for piece in pieces if piece]
        texts = [text + between for text in texts[:-1]] + texts[-1:]
        parts = [np.asarray(encode(text), dtype=np.int64) for text in texts]
        starts = np.cumsum([0, *map(len, parts)])[: len(parts)]
        tokens = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return cls("".join(texts), tokens, starts.astype(np.int64))
