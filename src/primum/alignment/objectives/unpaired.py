"""KTO: learning from answers that were each found good or bad, without pairs."""

import torch
from torch import Tensor


def kto(
    ratios: Tensor,
    desirable: Tensor,
    drift: Tensor | float,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO (Ethayarajh et al., 2024, eq. 7-8): one loss an answer.

    Args:
        ratios: log pi / pi_ref of each answer, (answers,).
        desirable: Which are good, boolean (answers,).
        drift: z_ref, how far the policy has moved from the reference; see `drift_of`.
        beta: How fast the value saturates.
        desirable_weight, undesirable_weight: Keep weight times count between 1:1 and 4:3.

    >>> kto(torch.zeros(2), torch.tensor([True, False]), 0.0)
    tensor([0.5000, 0.5000])
    """
    gained = beta * (ratios - drift)
    weights = torch.where(desirable, desirable_weight, undesirable_weight)
    return weights * torch.sigmoid(torch.where(desirable, -gained, gained))


def drift_of(ratios: Tensor) -> Tensor:
    """z_ref: the mean log ratio of answers put beside other prompts, no gradient, at least 0.

    >>> drift_of(torch.tensor([-3.0, 1.0]))
    tensor(0.)
    """
    return ratios.detach().mean().clamp(min=0)
