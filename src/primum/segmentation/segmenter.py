"""A trained network on one image: masks at the image's own size, best first."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from primum.segmentation.data.views import resized


class Masks(NamedTuple):
    """Masks of one image, best first.

    Attributes:
        masks: (masks, height, width) bool.
        scores: (masks,) objectness times the mean probability inside the mask.
        semantic: (masks,) bool: a semantic mask, which may have several parts.
        prototype: (masks,) the prototype each query looks like: its unnamed class.
    """

    masks: Tensor
    scores: Tensor
    semantic: Tensor
    prototype: Tensor

    def as_dicts(self) -> list[dict[str, Any]]:
        """One dict a mask, with the keys of SAM's automatic mask generator."""
        found = []
        for mask, score in zip(self.masks, self.scores.tolist(), strict=True):
            rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            left, top = int(columns[0]), int(rows[0])
            box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
            found.append(
                {
                    "segmentation": mask.numpy(),
                    "area": int(mask.sum()),
                    "bbox": box,
                    "predicted_iou": score,
                    "stability_score": score,
                    "point_coords": [[left + box[2] / 2, top + box[3] / 2]],
                    "crop_box": [0, 0, mask.shape[1], mask.shape[0]],
                }
            )
        return found


@torch.no_grad()
def segment(
    network: nn.Module,
    image: Tensor,
    side: int,
    limit: int = 100,
    instances_only: bool = False,
) -> Masks:
    """Segment a (3, height, width) uint8 image.

    Args:
        network: A `UniSeg`.
        side: The square it is scaled to; a multiple of 32 (and of the patch).
        limit: Most masks.
        instances_only: Leave the semantic queries out.
    """
    device = next(network.parameters()).device
    found = network(resized(image, side)[None].to(device))
    logits, objects = found.masks[-1][0].float(), found.objectness[-1][0].float()
    share = logits.sigmoid()
    inside = share > 0.5
    certain = (share * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    scores = objects.sigmoid() * certain
    semantic = torch.arange(len(scores), device=device) >= network.decoder.kinds[0]  # type: ignore
    keep = inside.any(2).any(1) & ~(semantic & instances_only)
    order = torch.where(keep, scores, -1.0).argsort(descending=True, stable=True)
    order = order[: min(limit, int(keep.sum()))]
    prototype = network.named(found.queries[0, order]).argmax(-1)  # type: ignore[operator]
    masks = []
    for chunk in logits[order].split(16):  # a photograph of 12 million pixels has many masks
        big = functional.interpolate(
            chunk[None], size=image.shape[1:], mode="bilinear", align_corners=False
        )[0]
        masks.append((big > 0).cpu())
    whole = torch.cat(masks) if masks else torch.zeros(0, *image.shape[1:], dtype=torch.bool)
    kept = whole.flatten(1).any(1)
    at = kept.to(device)
    return Masks(
        whole[kept], scores[order][at].cpu(), semantic[order][at].cpu(), prototype[at].cpu()
    )
