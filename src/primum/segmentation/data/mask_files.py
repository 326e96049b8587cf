"""Images with the masks somebody made for them, from one COCO file."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from primum.errors import UserError
from primum.extras import require
from primum.segmentation.data.datamodule import ImageData, ViewedImages
from primum.segmentation.data.sources import Files, Source


class MaskFile:
    """Image files below a folder, and their masks in a COCO JSON.

    The file is what `primum segment` writes, or any `{"images": [...], "annotations": [...]}` whose
    segmentations are RLE (compressed or not) or polygons. Categories are not read. Images without
    masks are left out.

    Args:
        root: The folder that the file names in `images` are relative to.
        masks: The JSON.
    """

    def __init__(self, root: str | Path, masks: str | Path) -> None:
        self.file = Path(masks)
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            images = {row["id"]: row for row in content["images"]}
            rows = content["annotations"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"This is no COCO file ({type(error).__name__}: {error})",
                file=masks,
                remedy="write one with: primum segment FOLDER -o OUT --backbone NAME",
            ) from None
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for row, annotation in enumerate(rows, 1):
            if annotation.get("image_id") not in images:
                raise UserError(
                    f"Annotation {row} belongs to image {annotation.get('image_id')!r}, which is"
                    " not among the images",
                    file=masks,
                    row=row,
                    remedy="keep images and annotations of one run together",
                )
            by_image[annotation["image_id"]].append(annotation)
        kept = [image for key, image in images.items() if by_image[key]]
        if not kept:
            raise UserError("There is no mask to learn from", file=masks)
        self.images = sorted(kept, key=lambda row: str(row["file_name"]))
        self.annotations = [by_image[row["id"]] for row in self.images]
        self.files = Files(root, [str(row["file_name"]) for row in self.images])

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return self.files.name(index)

    def read(self, index: int) -> Tensor:
        return self.files.read(index)

    def masks(self, index: int, limit: int) -> Tensor:
        """(masks, height, width) bool of one image, those of highest score, then the largest."""
        coco = require("pycocotools.mask", "segmentation")
        row, decoded = self.images[index], []
        rank = sorted(
            self.annotations[index],
            key=lambda one: (-float(one.get("score", 1.0)), -float(one.get("area", 0))),
        )
        for annotation in rank[:limit]:
            shape: Any = annotation.get("segmentation")
            try:
                if isinstance(shape, list):
                    shape = coco.merge(coco.frPyObjects(shape, row["height"], row["width"]))
                elif isinstance(shape["counts"], list):
                    shape = coco.frPyObjects(shape, *shape["size"])
                decoded.append(coco.decode(shape).astype(bool))
            except (TypeError, KeyError, ValueError, IndexError) as error:
                raise UserError(
                    f"A segmentation of `{self.name(index)}` is neither RLE nor polygons ({error})",
                    file=self.file,
                ) from None
        return torch.from_numpy(np.stack(decoded))


class MaskedViews(ViewedImages):
    """Views with the masks of the global one, as (limit, grid, grid) uint8."""

    def __init__(
        self,
        source: MaskFile,
        views: Callable[..., dict[str, Tensor]],
        seed: int,
        limit: int,
        grid: int,
    ) -> None:
        super().__init__(source, views, seed)
        self.file, self.limit, self.grid = source, limit, grid

    def __getitem__(self, draw: Any) -> dict[str, Tensor]:
        batch = super().__getitem__(draw)
        found = self.file.masks(int(batch["index"]), self.limit).float()
        left, top, side = batch.pop("square").tolist()
        square = found[None, :, top : top + side, left : left + side]
        masks = torch.zeros(self.limit, self.grid, self.grid, dtype=torch.uint8)
        masks[: len(found)] = interpolate(square, size=(self.grid, self.grid), mode="nearest")[0]
        return batch | {"masks": masks}


class PseudoMaskData(ImageData):
    """Images and pseudo-masks to learn from.

    Args:
        train: Gives the images with their masks when they are needed.
        limit: Most masks an image.
        grid: Rows and columns in which the global view's masks are kept.
        views, batch_size, seed, num_workers: See `ImageData`.
    """

    def __init__(
        self,
        train: Callable[[], MaskFile],
        views: Callable[..., dict[str, Tensor]] | None = None,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
        limit: int = 200,
        grid: int = 256,
    ) -> None:
        super().__init__(train, views, batch_size, seed, num_workers)
        self.limit, self.grid = limit, grid

    def dataset(self) -> Dataset:
        source: Source | None = self.source
        assert isinstance(source, MaskFile)
        return MaskedViews(source, self.views, self.seed, self.limit, self.grid)
