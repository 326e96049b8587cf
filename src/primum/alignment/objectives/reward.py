"""What reward and cost models minimise."""

import torch.nn.functional as F
from torch import Tensor


def bradley_terry(
    chosen: Tensor, rejected: Tensor, margin: Tensor | None = None, centre: float = 0.0
) -> Tensor:
    """-log sigmoid(r_chosen - r_rejected - margin) + centre (r_chosen + r_rejected)^2, one a pair.

    Args:
        chosen, rejected: Scores (pairs,).
        margin: How much better the chosen answer is (Touvron et al., 2023, eq. 2).
        centre: Pulls scores towards 0 (Eisenstein et al., 2023).

    >>> import torch
    >>> bradley_terry(torch.ones(1), torch.ones(1))
    tensor([0.6931])
    """
    gap = chosen - rejected
    loss = -F.logsigmoid(gap if margin is None else gap - margin)
    return loss + centre * (chosen + rejected).square() if centre else loss


def cost(worse: Tensor, better: Tensor, worse_harmful: Tensor, better_harmful: Tensor) -> Tensor:
    """The cost model's loss (Safe RLHF, Dai et al., 2024, eq. 6), one a pair; cost > 0 is unsafe.

    -log sigmoid(C_worse - C_better) - log sigmoid(s_w C_worse) - log sigmoid(s_b C_better), where
    s is +1 for a harmful answer and -1 for a safe one.

    Args:
        worse, better: Costs of the more and of the less harmful answer, (pairs,).
        worse_harmful, better_harmful: Whether each is harmful at all, boolean (pairs,).
    """
    order = -F.logsigmoid(worse - better)
    signs = (2 * worse_harmful.to(worse) - 1, 2 * better_harmful.to(better) - 1)
    return order - F.logsigmoid(signs[0] * worse) - F.logsigmoid(signs[1] * better)
