"""The multiplier that makes reward yield to safety as long as answers are too unsafe."""

import math

import torch
from torch import Tensor, nn

from primum.errors import UserError


def stepped(log_multiplier: Tensor, cost: Tensor, threshold: float, rate: float) -> Tensor:
    """One step of gradient ascent on exp(l) (cost - threshold) (Safe RLHF, eq. 32).

    l' = l + rate exp(l) (cost - threshold): the multiplier rises exactly while the cost is too
    high.
    """
    return log_multiplier + rate * log_multiplier.exp() * (cost - threshold)


class Multiplier(nn.Module):
    """lambda of a constraint on the mean cost: E[cost] <= threshold.

    It is a constraint on the expectation: single answers may still exceed the threshold.

    Args:
        threshold: The mean cost that is allowed.
        initial: lambda at the start.
        rate: Learning rate of log lambda.
        largest: lambda is never above.
        window: Optimizer steps over which costs are averaged before they are compared.
        delay: Optimizer steps in which lambda stays as it is.
    """

    log_value: Tensor
    recent: Tensor
    seen: Tensor

    def __init__(
        self,
        threshold: float = 0.0,
        initial: float = 1.0,
        rate: float = 0.1,
        largest: float = 20.0,
        window: int = 16,
        delay: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < initial <= largest or window < 1:
            raise UserError(
                f"A multiplier needs 0 < initial <= largest and a window of at least 1, not "
                f"{initial=}, {largest=}, {window=}"
            )
        self.threshold, self.rate, self.largest, self.delay = threshold, rate, largest, delay
        self.register_buffer("log_value", torch.tensor(math.log(initial), dtype=torch.float64))
        self.register_buffer("recent", torch.full((window,), float("nan"), dtype=torch.float64))
        self.register_buffer("seen", torch.tensor(0))

    @property
    def value(self) -> float:
        """lambda."""
        return float(self.log_value.exp())

    def update(self, cost: float) -> float:
        """Count the mean cost of one step over all ranks; the new lambda."""
        self.recent[int(self.seen) % len(self.recent)] = cost
        self.seen += 1
        if int(self.seen) > self.delay:
            moved = stepped(self.log_value, self.recent.nanmean(), self.threshold, self.rate)
            self.log_value.copy_(moved.clamp(max=math.log(self.largest)))
        return self.value
