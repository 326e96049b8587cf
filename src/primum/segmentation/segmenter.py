"""A trained network on one image: masks at the image's own size, best first."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
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
        labels: (height, width) the prototype of each pixel by the semantic queries, -1 where the
            network has none.
    """

    masks: Tensor
    scores: Tensor
    semantic: Tensor
    prototype: Tensor
    labels: Tensor

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

    def partitions(self, counts: Sequence[int] = (1, 2, 5, 10, 20, 50, 100, 200)) -> np.ndarray:
        """(counts, height, width) labels, a sweep: the so many best masks, small ones on top."""
        sweep = np.zeros((len(counts), *self.labels.shape), np.int32)
        area = self.masks.sum((1, 2))
        for labels, count in zip(sweep, counts, strict=True):
            for index in area[:count].argsort(descending=True, stable=True).tolist():
                labels[self.masks[index].numpy()] = index + 1
        return sweep

    def panoptic(
        self, prototypes: int, least_score: float = 0.5, least_free: float = 0.5
    ) -> tuple[np.ndarray, dict[int, int]]:
        """Each pixel in one segment: instances, the best first, then what the labels say.

        Args:
            prototypes: K; a stuff segment of prototype k has the category K + k, so that things and
                stuff never share one.
            least_score: Of an instance.
            least_free: Share of an instance that better ones must have left.

        Returns:
            (height, width) segment ids, 0 where there is none, and each one's category.
        """
        segments = np.zeros(tuple(self.labels.shape), np.int64)
        categories: dict[int, int] = {}
        rows = zip(self.masks, self.scores, self.semantic, self.prototype, strict=True)
        for mask, score, semantic, prototype in rows:
            if semantic or score < least_score:
                continue
            free = mask.numpy() & (segments == 0)
            if free.sum() >= least_free * int(mask.sum()):
                segments[free] = number = len(categories) + 1
                categories[number] = int(prototype)
        rest = np.where(segments == 0, self.labels.numpy(), -1)
        for label in np.unique(rest[rest >= 0]).tolist():
            segments[rest == label] = number = len(categories) + 1
            categories[number] = prototypes + label
        return segments, categories


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
    prototype = network.named(found.queries[0]).argmax(-1)  # type: ignore[operator]
    size = (image.shape[1], image.shape[2])
    masks = [  # a photograph of 12 million pixels has many masks
        (enlarged(chunk, size) > 0).cpu() for chunk in logits[order].split(16)
    ]
    whole = torch.cat(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)
    kept = whole.flatten(1).any(1)
    at = order[kept.to(device)]
    claims = scores[semantic, None, None] * share[semantic]
    return Masks(
        whole[kept], scores[at].cpu(), semantic[at].cpu(), prototype[at].cpu(),
        labelled(claims, prototype[semantic], size).cpu(),
    )  # fmt: skip


def labelled(claims: Tensor, prototype: Tensor, size: tuple[int, int]) -> Tensor:
    """The prototype that claims each pixel most, summed over its queries as in MaskFormer.

    Args:
        claims: (queries, rows, columns) probability of the mask times the query's score.
        prototype: (queries,).
        size: (height, width) of the labels.
    """
    most = claims.new_full(size, -1.0)
    label = torch.full(size, -1, device=claims.device)
    for one in prototype.unique():
        claim = enlarged(claims[prototype == one].sum(0, keepdim=True), size)[0]
        label = torch.where(claim > most, one, label)
        most = torch.maximum(claim, most)
    return label


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(masks, rows, columns) at the image's own size, smoothly."""
    return functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
