"""Which query answers for which mask: the assignment of greatest Dice, a kind at a time."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from primum.segmentation.pseudo_masks import Targets


class Pairs(NamedTuple):
    """Matched pairs of a batch of views, each (pairs,).

    Attributes:
        view, query, target: Indices of the view, its query and its target row.
        weight: One over the pairs of the same view: every view counts the same, however many
            masks its teacher found.
        dice: Of the pair, within 0..1.
    """

    view: Tensor
    query: Tensor
    target: Tensor
    weight: Tensor
    dice: Tensor


def dice_matrix(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice similarity of every query with every mask.

    Args:
        logits: (views, queries, height, width).
        masks: (views, rows, height, width) bool.

    Returns:
        (views, queries, rows), float32.
    """
    probability, mask = logits.float().sigmoid().flatten(2), masks.flatten(2).float()
    shared = probability @ mask.transpose(1, 2)
    total = probability.sum(2)[:, :, None] + mask.sum(2)[:, None]
    return (2 * shared + 1) / (total + 1)


@torch.no_grad()
def match(logits: Tensor, targets: Targets, queries: Sequence[int]) -> Pairs:
    """Match queries with masks, instances and semantic masks apart (S2-UniSeg, cropped matching).

    Args:
        logits: (views, queries, height, width) of masks of the targets' size.
        targets: What is to be matched.
        queries: Instance and semantic queries, in the order of `logits`.

    Returns:
        Pairs ordered by view, then target row.
    """
    from scipy.optimize import linear_sum_assignment

    dice = dice_matrix(logits, targets.masks)
    scores, valid = dice.cpu().numpy(), targets.valid.cpu().numpy()
    found: list[tuple[int, int, int]] = []
    for view in range(len(scores)):
        for kind in (0, 1):
            row = valid[view].nonzero()[0]
            row = row[(row >= targets.instances) == bool(kind)]
            first = queries[0] * kind
            part = scores[view, first : first + queries[kind], row]  # (rows, queries)
            chosen, best = linear_sum_assignment(part, maximize=True)
            found += [(view, first + q, row[r]) for r, q in zip(chosen, best, strict=True)]
    table = torch.tensor(found, dtype=torch.long).reshape(-1, 3).to(logits.device)
    views, answering, asked = table.unbind(1)
    count = torch.bincount(views, minlength=len(scores))
    return Pairs(views, answering, asked, 1 / count[views], dice[views, answering, asked])
