"""What a candidate says of a picture, in the forms people have it: masks, partitions, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from primum.errors import UserError
from primum.extras import require
from primum.metrics.sweep_overlap import RANKS, distinct_regions, ordered


@dataclass(frozen=True)
class Segments:
    """One answer of an image benchmark; every part may be missing.

    Attributes:
        masks: COCO annotations, best first: `segmentation` (run-length code), `score`, and
            `category_id` where there are classes.
        partitions: (scales, height, width) integer labels, fine to coarse or the other way.
        labels: (height, width) clusters or classes, negative where there is none.
        segments: (height, width) segment ids with `categories`, for panoptic segmentation.
        categories: Class or cluster of each id in `segments`.
        seconds: What the candidate itself says it took.
    """

    masks: list[dict[str, Any]] = field(default_factory=list)
    partitions: np.ndarray | None = None
    labels: np.ndarray | None = None
    segments: np.ndarray | None = None
    categories: Mapping[int, int] = field(default_factory=dict)
    seconds: float | None = None

    @classmethod
    def of(cls, answer: Any, size: tuple[int, int]) -> Segments:
        """From what a candidate gave: this class, a mapping of its fields, or a list of masks.

        Masks may be boolean arrays, run-length codes or polygons, scored by `score`,
        `predicted_iou` (as SAM's mask generator does) or not at all; boxes alone are kept.

        Args:
            answer: The answer.
            size: (height, width) of the picture.

        Raises:
            UserError: It is none of these, or of another size.
        """
        if isinstance(answer, cls):
            return answer
        if isinstance(answer, Sequence) and not isinstance(answer, str):
            answer = {"masks": answer}
        if not isinstance(answer, Mapping) or not set(answer) <= set(cls.__dataclass_fields__):
            raise UserError(
                f"A {type(answer).__name__} is no answer to a picture",
                remedy="give a list of masks, or a mapping with "
                + ", ".join(cls.__dataclass_fields__),
            )
        given = dict(answer)
        for name in ("partitions", "labels", "segments"):
            if given.get(name) is not None:
                given[name] = np.asarray(given[name])
                if given[name].shape[-2:] != size:
                    raise UserError(
                        f"`{name}` has the shape {given[name].shape}, the picture is "
                        f"{size[0]} x {size[1]}"
                    )
        masks = [coded(mask, size) for mask in given.get("masks") or []]
        order = np.argsort([-mask["score"] for mask in masks], kind="mergesort")
        return cls(**given | {"masks": [masks[index] for index in order]})

    @property
    def summary(self) -> str:
        """What a row keeps of it."""
        parts = []
        if self.masks:
            parts.append(f"{len(self.masks)} masks")
        if self.partitions is not None:
            counts = [len(np.unique(one)) for one in self.partitions]
            parts.append(f"{len(counts)} partitions of {min(counts)} to {max(counts)} regions")
        if self.labels is not None:
            parts.append(f"{len(np.unique(self.labels[self.labels >= 0]))} labels")
        if self.segments is not None:
            parts.append(f"{len(self.categories)} segments")
        return ", ".join(parts) or "nothing"


def coded(mask: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A mask as a scored COCO annotation with a run-length code."""
    score = mask.get("score", mask.get("predicted_iou", 1.0))
    found: dict[str, Any] = {"score": float(score)}
    if "category_id" in mask:
        found["category_id"] = mask["category_id"]
    if mask.get("segmentation") is not None:
        found["segmentation"] = run_length(mask["segmentation"], size)
    if mask.get("bbox") is not None:
        found["bbox"] = [float(value) for value in mask["bbox"]]
    elif "segmentation" in found:
        coco = require("pycocotools.mask", "segmentation")
        found["bbox"] = coco.toBbox(found["segmentation"]).tolist()
    return found


def run_length(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """The run-length code of a boolean array, polygons, or a code in either form.

    Raises:
        UserError: It is of another size than the picture, or none of these.
    """
    coco = require("pycocotools.mask", "segmentation")
    height, width = size
    if isinstance(segmentation, Mapping):
        if tuple(segmentation.get("size", ())) != (height, width):
            raise UserError(
                f"A mask is of {segmentation.get('size')}, its picture of {[height, width]}"
            )
        if isinstance(segmentation["counts"], list):
            return coco.frPyObjects(dict(segmentation), height, width)
        return dict(segmentation)
    if isinstance(segmentation, list):
        usable = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not usable:
            return empty_code(size)
        return coco.merge(coco.frPyObjects(usable, height, width))
    array = np.asarray(segmentation)
    if array.shape != (height, width):
        raise UserError(f"A mask is of {array.shape}, its picture of {(height, width)}")
    return coco.encode(np.asfortranarray(array.astype(np.uint8)))


def empty_code(size: tuple[int, int]) -> dict[str, Any]:
    """The code of a mask without pixels."""
    return require("pycocotools.mask", "segmentation").encode(np.zeros(size, np.uint8, order="F"))


def pooled_masks(
    partitions: np.ndarray, most: int = 1000, rank: str = "area"
) -> list[dict[str, Any]]:
    """The distinct regions of a sweep as masks, best first.

    Args:
        partitions: (scales, height, width) integer labels.
        most: How many.
        rank: `area`: the largest first; `persistence`: those that most scales agree on first, then
            the largest; `extent`; each also with `_apart`. See `primum.metrics.sweep_overlap`.
    """
    if rank in RANKS:
        regions = sorted(distinct_regions(partitions), key=RANKS[rank])
    else:
        regions = ordered(partitions, most)[rank]
    size = (partitions.shape[1], partitions.shape[2])
    return [
        {
            "segmentation": run_length(partitions[scale] == label, size),
            "score": 1 - place / max(1, len(regions)),
        }
        for place, (scale, label, *_) in enumerate(regions[:most])
    ]
