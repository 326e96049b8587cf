"""How well the regions of an image are among a candidate's first so many masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.extras import require
from primum.metrics.resampling import ratio_of_sums, resampled_score
from primum.metrics.score import Score

Rle = Mapping[str, Any]
BUDGETS = (10, 50, 100)


def best_overlaps(
    masks: Sequence[Rle], truths: Sequence[Rle], budgets: Sequence[int] = BUDGETS
) -> np.ndarray:
    """(budgets, truths) each region's best intersection over union with the first masks.

    Args:
        masks: COCO run-length codes, the ones to keep first at the head.
        truths: COCO run-length codes of the regions to be found.
        budgets: How many masks an image may use.

    Raises:
        UserError: pycocotools is not installed.
    """
    coco = require("pycocotools.mask", "segmentation")
    found = np.zeros((len(budgets), len(truths)))
    if not masks or not truths:
        return found
    used = list(masks[: max(budgets)])
    overlap = np.asarray(coco.iou(used, list(truths), [0] * len(truths)))  # (masks, truths)
    for row, budget in enumerate(budgets):
        found[row] = overlap[:budget].max(0)
    return found


def best_overlap_scores(
    sums: np.ndarray, regions: np.ndarray, budgets: Sequence[int], protocol: str = ""
) -> dict[str, Score]:
    """Mean best overlap over all regions, at each budget.

    Args:
        sums: (images, budgets) sums of best overlaps; `regions`: (images,) how many there are.
    """
    how = protocol or "mean over regions of the best overlap"
    return {
        f"miou_{budget}": resampled_score(
            f"best-overlap mIoU, {budget} masks", len(regions),
            ratio_of_sums(sums[:, column], regions), f"{how}, first {budget} masks of an image",
        )
        for column, budget in enumerate(budgets)
    }  # fmt: skip


class BestOverlap(Metric):
    """Best-overlap mIoU at several budgets; an image without masks counts with zeros.

    Args:
        budgets: How many masks an image may use.
    """

    is_differentiable = False
    full_state_update = False

    sums: list[Tensor]
    regions: list[Tensor]

    def __init__(self, budgets: Sequence[int] = BUDGETS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.budgets = tuple(budgets)
        self.add_state("sums", default=[], dist_reduce_fx="cat")
        self.add_state("regions", default=[], dist_reduce_fx="cat")

    def update(self, masks: Sequence[Rle], truths: Sequence[Rle]) -> None:
        """Add one image: its masks, best first, and the regions to be found."""
        found = best_overlaps(masks, truths, self.budgets).sum(1)
        self.sums.append(torch.as_tensor(found)[None])
        self.regions.append(torch.tensor([float(len(truths))], dtype=torch.float64))

    def compute(self) -> dict[str, Score]:
        """The scores so far, by `miou_<budget>`."""
        if len(self.regions) == 0:
            return best_overlap_scores(np.zeros((0, len(self.budgets))), np.zeros(0), self.budgets)
        sums, regions = (dim_zero_cat(state).cpu().numpy() for state in (self.sums, self.regions))
        return best_overlap_scores(sums, regions, self.budgets)
