"""QuerySD: a student's query names the prototypes that its teacher's region names."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Reduce = Callable[[Tensor], Tensor]  # sums a tensor over ranks


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of each matched pair (S2-UniSeg, QuerySD; the paper's sum lacks its sign).

    Args:
        student: (pairs, K) cosines.
        teacher: (pairs, K) probabilities.

    Returns:
        (pairs,).
    """
    return -(teacher * (student.float() / temperature).log_softmax(-1)).sum(-1)


def entropy(probabilities: Tensor) -> Tensor:
    """In nats, over the last axis.

    >>> round(float(entropy(torch.full((8,), 0.125))), 3)  # log 8
    2.079
    """
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(-1)


class Centring(nn.Module):
    """Teacher probabilities after subtracting a running mean, one for each kind (DINO).

    The mean of a step is over all its queries on all ranks and accumulated micro-batches, and moves
    the centre only when the step is done.

    Args:
        prototypes: K.
        momentum: Of the centre.
    """

    centre: Tensor

    def __init__(self, prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(2, prototypes))
        # sums and count of this step; no buffer, which DDP would overwrite with rank 0's
        self.seen: Tensor | None = None

    def forward(
        self, logits: Tensor, kind: Tensor, valid: Tensor, temperature: float, reduce: Reduce
    ) -> Tensor:
        """(batch, rows, K) probabilities of (batch, rows, K) cosines of (rows,) kinds."""
        logits = logits.float()
        return ((logits - self.centre[kind]) / temperature).softmax(-1)

    @torch.no_grad()
    def observe(self, logits: Tensor, kind: Tensor, valid: Tensor) -> None:
        """Take a micro-batch into account."""
        weight = valid.float()
        sums = torch.einsum("brk,br->rk", logits.float(), weight)
        rows = torch.cat([sums, weight.sum(0)[:, None]], 1)  # (rows, K + 1)
        seen = rows.new_zeros(2, rows.shape[1]).index_add_(0, kind, rows)
        self.seen = seen if self.seen is None else self.seen + seen

    @torch.no_grad()
    def settle(self, reduce: Reduce) -> None:
        """Move the centre at the end of an optimizer step; every rank calls it."""
        assert self.seen is not None
        seen = reduce(self.seen)
        mean, count = seen[:, :-1] / seen[:, -1:].clamp(min=1), seen[:, -1:]
        moved = self.momentum * self.centre + (1 - self.momentum) * mean
        self.centre.copy_(torch.where(count > 0, moved, self.centre))
        self.seen = None


class Sinkhorn(nn.Module):
    """Teacher probabilities that use every prototype alike within the batch (SwAV, DINOv2).

    The two kinds are balanced apart. Balance is over all ranks; accumulated micro-batches are
    balanced one by one.

    Args:
        prototypes: K.
        rounds: Alternations of the two normalisations.
    """

    def __init__(self, prototypes: int, rounds: int = 3) -> None:
        super().__init__()
        self.prototypes, self.rounds = prototypes, rounds

    @torch.no_grad()
    def forward(
        self, logits: Tensor, kind: Tensor, valid: Tensor, temperature: float, reduce: Reduce
    ) -> Tensor:
        """(batch, rows, K) probabilities of (batch, rows, K) cosines of (rows,) kinds."""
        # shifting by 1, the greatest cosine, leaves the result as it is and bounds the exponent
        scores = ((logits.float() - 1) / temperature).exp() * valid[..., None]
        member = nn.functional.one_hot(kind, 2).float()  # (rows, 2)
        for _ in range(self.rounds):
            column = reduce(torch.einsum("brk,rc->ck", scores, member))
            scores = scores / (self.prototypes * column.clamp(min=1e-20))[kind]
            scores = scores / scores.sum(-1, keepdim=True).clamp(min=1e-20)
        return scores

    def observe(self, logits: Tensor, kind: Tensor, valid: Tensor) -> None:
        """Nothing is remembered."""

    def settle(self, reduce: Reduce) -> None:
        """Nothing is remembered."""


def warmed(start: float, end: float, share: float) -> float:
    """A value that rises linearly over the first part of training and then stays.

    >>> [round(warmed(0.04, 0.07, share), 3) for share in (0.0, 0.5, 1.0, 2.0)]
    [0.04, 0.055, 0.07, 0.07]
    """
    return start + (end - start) * min(1.0, max(0.0, share))
