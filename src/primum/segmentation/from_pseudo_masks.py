"""Training the mask decoder on anybody's masks, so that mask makers can be compared fairly."""

from typing import Any

from torch import Tensor

from primum.segmentation.pseudo_masks import Targets, points, visible
from primum.segmentation.student import MaskStudent


class PseudoMaskModule(MaskStudent):
    """The student of S2-UniSeg without a teacher: masks come with the images.

    Whatever made them (UniAP, MaskCut, a model), network, views, losses and schedule are the same,
    so that a difference in the result is a difference of the masks. For the arguments see
    `MaskStudent`. All masks count as instances.
    """

    names = False

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        crops = batch["crops"]
        prediction = self.student(crops.flatten(0, 1))
        targets = cropped(
            batch["masks"], batch["boxes"], batch["flips"], prediction.masks[-1].shape[-1]
        )
        parts, pairs = self.losses(prediction, targets)
        # the prototypes have nothing to learn here; DDP wants every weight to take part
        idle = self.student.named(prediction.queries).sum() + prediction.queries.sum()
        parts = {name: value / crops.shape[1] for name, value in parts.items()}
        self.log_parts(parts, len(crops))
        loss = sum(self.weights[name] * value for name, value in parts.items())
        return {
            "loss": loss * batch["loss_scale"] + 0.0 * idle,
            "masks": targets.valid.float().sum(1).mean(),
            "overlap": pairs.dice.mean(),
        }


def cropped(masks: Tensor, boxes: Tensor, flips: Tensor, side: int) -> Targets:
    """Cut masks of whole images to local views.

    Args:
        masks: (batch, rows, height, width) uint8, 0 or 1; a row without a pixel is padding.
        boxes: (batch, crops, 4) left, top, right, bottom within 0..1.
        flips: (batch, crops) bool.
        side: Rows and columns of the masks wanted.
    """
    batch, rows = masks.shape[:2]
    crops = flips.shape[1]
    cell = points(boxes, flips, side, (masks.shape[2], masks.shape[3])).flatten(1)
    seen = masks.flatten(2).gather(2, cell[:, None].expand(-1, rows, -1)) > 0
    views = seen.view(batch, rows, crops, side, side).transpose(1, 2)
    share = masks.flatten(2).float().mean(2)
    valid = (share > 0)[:, None] & visible(views, boxes, share, 0.01, 0.2)
    return Targets(views.flatten(0, 1), valid.flatten(0, 1), rows)
