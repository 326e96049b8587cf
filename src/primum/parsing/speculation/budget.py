"""How many nodes a step may have: as many as pay for the wider forward."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Budget(Protocol):
    """Decides a tree's size from its nodes' chances, and learns from what a step gave and took.

    Attributes:
        plain: Seconds of a step without drafts; 0 where nobody knows.
    """

    plain: float

    def nodes(self, chances: np.ndarray) -> int:
        """Nodes to keep, the likeliest first.

        Args:
            chances: (n,) float64 in falling order.
        """

    def record(self, nodes: int, tokens: int, seconds: float) -> None:
        """A step with `nodes` nodes gave `tokens` tokens in `seconds`."""


class FixedBudget:
    """The same size at every step.

    Args:
        size: Nodes at most; 0 is plain decoding.
        floor: Nodes less likely than this are never worth it.
    """

    plain = 0.0

    def __init__(self, size: int = 32, floor: float = 0.002) -> None:
        self.size, self.floor = size, floor

    def nodes(self, chances: np.ndarray) -> int:
        """All above the floor, up to the size."""
        return min(self.size, int(np.searchsorted(-chances, -self.floor)))

    def record(self, nodes: int, tokens: int, seconds: float) -> None:
        """Nothing to learn."""


class MeanBudget:
    """A mean size over all steps, spent where it brings most.

    Every node costs the same price, in expected tokens; the price rises and falls so that the mean
    is met. The mean is never passed: what a step may spend was saved by the steps before it.

    Args:
        mean: Nodes a step, node 0 not counted.
        most: Nodes in one step at most.
    """

    plain = 0.0

    def __init__(self, mean: float = 48.0, most: int = 192) -> None:
        self.mean, self.most = mean, most
        self.price = 0.02
        self.saved = 0.0

    def nodes(self, chances: np.ndarray) -> int:
        """All above the price, as far as the savings go."""
        worth = int(np.searchsorted(-chances, -self.price))
        return max(0, min(worth, self.most, int(self.saved + self.mean)))

    def record(self, nodes: int, tokens: int, seconds: float) -> None:
        """Save or spend; move the price."""
        self.saved = min(self.saved + self.mean - nodes, 8.0 * self.most)
        self.price = float(
            np.clip(self.price * np.exp(0.03 * (nodes - self.mean) / self.mean), 1e-5, 0.5)
        )


class MeasuredBudget:
    """The size with the most expected tokens a second, by the measured cost of a wider forward.

    With g(n) the expected tokens of the n likeliest nodes and c(n) the seconds of a forward that
    verifies them, the best ratio of sums is reached by maximising g(n) - r c(n) at each step, where
    r is the rate reached so far (Dinkelbach, 1967). Where drafts do not pay, n = 0 is plain
    decoding.

    Args:
        seconds: Forward time by number of new tokens, node 0 counted; at least {1: ...}.
        step: Seconds a step takes beside the forward.
        drafting: Seconds a step takes more where drafts are made at all.
        most: Nodes in one step at most.
    """

    def __init__(
        self,
        seconds: Mapping[int, float],
        step: float = 0.0,
        drafting: float = 0.0,
        most: int = 63,
    ) -> None:
        widths = sorted(seconds)
        times = np.maximum.accumulate([seconds[width] for width in widths])
        self.most = min(most, widths[-1] - 1)
        self._cost = np.interp(np.arange(1, self.most + 2), widths, times) + step
        self._cost[1:] += drafting
        self.plain = float(self._cost[0])
        self._tokens = self._spent = 0.0
        self.record(0, 1, 0.0)

    def nodes(self, chances: np.ndarray) -> int:
        """Maximise expected tokens less what the time is worth."""
        chances = chances[: self.most]
        gain = np.concatenate([[0.0], np.cumsum(chances)])
        rate = self._tokens / self._spent
        return int((gain - rate * self._cost[: len(gain)]).argmax())

    def record(self, nodes: int, tokens: int, seconds: float) -> None:
        """Fading sums of tokens and of modelled seconds: a slow moment is no news."""
        fade = 0.98
        self._tokens = fade * self._tokens + tokens
        self._spent = fade * self._spent + float(self._cost[min(nodes, self.most)])
