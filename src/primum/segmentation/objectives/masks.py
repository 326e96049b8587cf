"""Is it a region, and which pixels: objectness, cross-entropy and Dice of matched queries."""

import torch
from torch import Tensor
from torch.nn import functional

from primum.segmentation.objectives.matching import Pairs

NOTHING = 0.1  # weight of a query that stands for no mask, as in Mask2Former


def mask_losses(logits: Tensor, masks: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Pixel cross-entropy and Dice loss.

    Every position counts: at stride 4 a 256-pixel view has 4,096 of them, fewer than the 12,544
    points that Mask2Former samples, and without sampling a step is repeatable.

    Args:
        logits: (views, queries, height, width).
        masks: (views, rows, height, width) bool.

    Returns:
        The sums over views of each view's mean over its pairs; zero where nothing matched.
    """
    guess = logits[pairs.view, pairs.query].flatten(1).float()
    truth = masks[pairs.view, pairs.target].flatten(1).float()
    entropy = functional.binary_cross_entropy_with_logits(guess, truth, reduction="none").mean(1)
    share = guess.sigmoid()
    overlap = (2 * (share * truth).sum(1) + 1) / (share.sum(1) + truth.sum(1) + 1)
    return (entropy * pairs.weight).sum(), ((1 - overlap) * pairs.weight).sum()


def objectness_loss(logits: Tensor, pairs: Pairs) -> Tensor:
    """Cross-entropy of (views, queries) objectness, summed over views, averaged over queries."""
    truth = torch.zeros_like(logits, dtype=torch.float32)
    truth[pairs.view, pairs.query] = 1.0
    weight = torch.where(truth > 0, 1.0, NOTHING)
    entropy = functional.binary_cross_entropy_with_logits(
        logits.float(), truth, weight, reduction="none"
    )
    return (entropy.sum(1) / weight.sum(1)).sum()
