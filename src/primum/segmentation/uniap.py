"""UniAP for people: a picture in, nested masks out, on the features of any backbone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primum.errors import UserError
from primum.segmentation.absorbing import absorbed
from primum.segmentation.backbones import Backbone
from primum.segmentation.nested import Nested
from primum.segmentation.peers.peer import enlarged
from primum.segmentation.pictures import read_picture
from primum.segmentation.snapping import snapped
from primum.segmentation.tuned import tuned
from primum_kernels.agglomeration import PRESETS, Agglomeration, agglomerate

OUTPUTS = ("binary_mask", "uncompressed_rle", "coco_rle")
LARGEST = 2 * 2**30  # bytes of dense masks that one call may return
LISTED = 1024  # regions a level
log = logging.getLogger(__name__)


class UniAP:
    """Pseudo-masks of pictures without labels (S2-UniSeg, AAAI-26, UniAP).

    Args:
        preset: `paper`, `author_code` or `recommended`; see
            `primum_kernels.agglomeration.PRESETS`.
        backbone: Where features come from: a `Backbone`, or a name that one is made of with
            `weights`, `layer` and `size`: any timm name, or
            `package:efficientnet_lite0`, which `recommended` was chosen on.
        weights: A local .safetensors file for the backbone; None takes timm's own.
        layer: `tokens`, `keys`, or stages of a convolutional network; None chooses.
        size: Pixels of the longer side when the picture is shown to the backbone.
        thresholds: A level each, not rising. None takes those tuned for this backbone
            (`tuned.yaml`) with `recommended`, and otherwise the preset's own.
        centre: Take a picture's mean feature away first; None as tuned, else no.
        options: Further arguments of `agglomerate`, laid over the preset. What is smaller than
            `min_area` tokens at the first level goes to the neighbour it looks like most.
        snap: Move borders from the token grid to edges of the picture.
        output_mode: As in SAM's generator: `binary_mask`, `uncompressed_rle` or `coco_rle`.
        device: None takes a GPU if there is one.

    >>> from primum.segmentation.uniap import UniAP
    >>> masks = UniAP("recommended", "package:efficientnet_lite0")(image)  # doctest: +SKIP
    >>> masks[0]["segmentation"].shape, masks[0]["level"]  # doctest: +SKIP
    """

    def __init__(
        self,
        preset: str = "recommended",
        backbone: Backbone | str = "package:efficientnet_lite0",
        *,
        weights: str | None = None,
        layer: str | Sequence[int] | None = None,
        size: int | None = None,
        thresholds: Sequence[float] | None = None,
        centre: bool | None = None,
        options: Mapping[str, Any] | None = None,
        snap: bool = True,
        output_mode: str = "binary_mask",
        device: str | torch.device | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise UserError(
                f"There is no UniAP preset `{preset}`", remedy=f"one of {', '.join(PRESETS)}"
            )
        if output_mode not in OUTPUTS:
            raise UserError(
                f"There is no output_mode={output_mode!r}", remedy=f"one of {', '.join(OUTPUTS)}"
            )
        if isinstance(backbone, str):
            backbone = chosen(backbone, weights, layer=layer, size=size)
        elif weights is not None or layer is not None or size is not None:
            raise UserError("weights, layer and size belong to the Backbone that was given")
        found = tuned(backbone) if preset == "recommended" else {}
        self.is_tuned = thresholds is None and "thresholds" in found
        self.preset, self.snap, self.output_mode = preset, snap, output_mode
        self.centre = bool(found.get("centre", False)) if centre is None else centre
        self.options = dict(PRESETS[preset]) | {"semantic": False, "max_instances": LISTED}
        thresholds = found.get("thresholds") if thresholds is None else thresholds
        if thresholds is not None:
            self.options["thresholds"] = tuple(float(tau) for tau in thresholds)
        if self.is_tuned:
            self.options["balance"] = float(found.get("balance", 0.0))
        self.options |= dict(options or {})
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.device(where)
        self.backbone = backbone.to(self.device)
        log.info(self.told())

    def told(self) -> str:
        """One line: backbone, how its weights were made, device, preset."""
        made = self.backbone
        thresholds = self.options.get("thresholds")
        levels = "its own thresholds"
        if thresholds is not None:
            levels = " ".join(f"{tau:g}" for tau in thresholds)
            levels = f"thresholds {levels}{' (tuned for it)' if self.is_tuned else ''}"
        return (
            f"backbone {made.name} ({made.label}), device {self.device}, preset {self.preset}, "
            f"{levels}"
        )

    def identity(self) -> dict[str, Any]:
        """What masks depend on."""
        return {
            "backbone": self.backbone.identity(), "preset": self.preset, "options": self.options,
            "centre": self.centre, "snap": self.snap,
        }  # fmt: skip

    def __call__(self, image: Any) -> list[dict[str, Any]]:
        """Masks of a picture, best first.

        Args:
            image: (height, width, 3) uint8 RGB, a Pillow image, or a file.

        Returns:
            One dict a mask with the keys of SAM's automatic mask generator (`segmentation`,
            `area`, `bbox` as left, top, width and height, `predicted_iou`, `point_coords`,
            `stability_score`, `crop_box`) and `level` (from 1, fine to coarse), `parent` (place in
            this list of the smallest mask that contains it, or None), `score`. What SAM predicts
            is here the score, and stability is the share of levels at which the mask exists.

        Raises:
            UserError: The picture cannot be read, features are not finite, or dense masks would
                take more than 2 GiB.
        """
        image = pixels(image)
        nested = self.nested(image)
        height, width = image.shape[:2]
        dense = height * width * len(nested.regions)
        if self.output_mode == "binary_mask" and dense > LARGEST:
            raise UserError(
                f"{len(nested.regions)} masks of {width} x {height} pixels would take "
                f"{dense / 2**30:.1f} GiB",
                remedy='output_mode="coco_rle" (as in SAM), or options={"min_area": N} for fewer',
            )
        order = sorted(range(len(nested.regions)), key=lambda row: -nested.regions[row].score)
        place = {row: at for at, row in enumerate(order)}
        made: list[dict[str, Any]] = [{}] * len(order)
        for row, region, mask in nested.each():
            x, y = mask.point()
            made[place[row]] = {
                "segmentation": self.encoded(mask),
                "area": region.area,
                "bbox": list(region.box),
                "predicted_iou": region.score,
                "point_coords": [[x, y]],
                "stability_score": region.persistence / nested.levels,
                "crop_box": [0, 0, width, height],
                "level": region.level + 1,
                "parent": None if region.parent is None else place[region.parent],
                "score": region.score,
            }
        return made

    def encoded(self, mask: Any) -> Any:
        """A mask in the output mode."""
        if self.output_mode == "coco_rle":
            return mask.compressed()
        if self.output_mode == "uncompressed_rle":
            return {"size": list(mask.size), "counts": mask.counts()}
        return mask.mask()

    def nested(self, image: np.ndarray) -> Nested:
        """Regions of a (height, width, 3) uint8 picture at its own size."""
        features = self.features(image)
        found = self.agglomerated(features)
        grid = found.labels[0, 0].cpu().numpy()
        unit = torch.nn.functional.normalize(features[0], dim=-1).cpu().numpy()
        grid = absorbed(grid, unit, int(self.options.get("min_area", 4)))[grid]
        height, width = image.shape[:2]
        finest = snapped(image, grid) if self.snap else enlarged(grid, height, width)
        return Nested.of(found, finest)

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> Tensor:
        """(1, rows, columns, channels) of a picture."""
        shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self.device)
        features = self.backbone(shown.float() / 255).float()
        return features - features.mean((1, 2), keepdim=True) if self.centre else features

    def agglomerated(self, features: Tensor, **options: Any) -> Agglomeration:
        """UniAP on features, with some options changed.

        Raises:
            UserError: Features are not finite, or an option is out of range.
        """
        try:
            return agglomerate(features, **self.options | options)
        except (ValueError, TypeError) as error:
            remedy = None
            if "NaN" in str(error):
                remedy = "the backbone's weights are damaged, or overflow in this precision"
            raise UserError(f"UniAP cannot group this: {error}", remedy=remedy) from None


def chosen(
    name: str,
    weights: str | None = None,
    *,
    layer: str | Sequence[int] | None = None,
    size: int | None = None,
) -> Backbone:
    """A backbone by name, with the layer and size it is used with here unless they are given."""
    known = tuned(name)
    layer = layer if layer is not None else known.get("layer")
    size = size if size is not None else known.get("size", 480)
    if layer is not None:
        return Backbone(name, weights, layer=layer, size=size)
    try:
        return Backbone(name, weights, layer="tokens", size=size)
    except UserError as error:
        if "convolutional" not in error.problem:
            raise
        return Backbone(name, weights, layer=[2, 3], size=size)


def pixels(image: Any) -> np.ndarray:
    """(height, width, 3) uint8 of an array, a Pillow image or a file.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(image, str | Path):
        return read_picture(image)
    array = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
    if array.ndim == 2 and array.dtype == np.uint8:
        array = np.repeat(array[..., None], 3, 2)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise UserError(
            f"A picture is (height, width, 3) uint8 RGB, not {array.shape} {array.dtype}",
            remedy="give the file itself, or a Pillow image",
        )
    return array
