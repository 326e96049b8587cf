"""Batches of views, resumable to the sample; a bad file is skipped and reported, not fatal."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from primum.errors import UserError
from primum.segmentation.data.sources import Source, fingerprint
from primum.segmentation.data.views import Views
from primum.training.loading import ResumableLoader
from primum.training.sampling import example_generator

TRIES = 16  # images that may follow each other unreadable before the data set is given up


class ViewedImages(Dataset):
    """The views of each image, a function of (seed, epoch, index).

    An image that cannot be read gives way to the next readable one and is reported once.
    """

    def __init__(self, source: Source, views: Callable[..., dict[str, Tensor]], seed: int) -> None:
        self.source, self.views, self.seed = source, views, seed
        self.bad: set[int] = set()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Any) -> dict[str, Tensor]:
        generator = example_generator(self.seed, draw.epoch, int(draw))
        found, image = self.readable(int(draw))
        return self.views(image, generator) | {"index": torch.tensor(found)}

    def readable(self, index: int) -> tuple[int, Tensor]:
        """The first image from `index` on that can be read, and its number."""
        for step in range(min(TRIES, len(self.source))):
            place = (index + step) % len(self.source)
            if place in self.bad:
                continue
            try:
                return place, self.source.read(place)
            except UserError as error:
                self.bad.add(place)
                warnings.warn(f"skipped: {error}", stacklevel=2)
        raise UserError(
            f"None of {min(TRIES, len(self.source))} images in a row can be read",
            file=self.source.name(index),
            remedy="check the data set: it may be half copied, or behind a broken link",
        )


class ImageData(LightningDataModule):
    """Images to learn from. No annotation is read, whatever the source may have beside them.

    Args:
        train: Gives the source of images when it is needed.
        views: What is cut out of an image: `Views` or `MultiCrop`.
        batch_size: Images in a micro-batch.
        seed: Order and views of epoch e are functions of (seed, e).
        num_workers: Processes that decode and cut.
    """

    def __init__(
        self,
        train: Callable[[], Source],
        views: Callable[..., dict[str, Tensor]] | None = None,
        batch_size: int = 16,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.build, self.views = train, views or Views()
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.source: Source | None = None

    def setup(self, stage: str) -> None:
        if self.source is None:
            self.source = self.build()

    def dataset(self) -> Dataset:
        """What the loader reads; needs `setup`."""
        assert self.source is not None
        return ViewedImages(self.source, self.views, self.seed)

    def train_dataloader(self) -> ResumableLoader:
        assert self.trainer is not None
        return ResumableLoader(
            self.dataset(),
            self.trainer,
            batch_size=self.batch_size,
            seed=self.seed,
            weigh=images_in,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def fingerprints(self) -> list[dict[str, Any]]:
        """Rows and SHA-256 of the image names, for the manifest."""
        assert self.source is not None
        names = {"name": type(self.source).__name__, "split": "train"}
        return [names | {"rows": len(self.source), "sha256": fingerprint(self.source)}]


def images_in(batch: Mapping[str, Tensor]) -> float:
    """What the losses of a batch are divided by: each image counts the same."""
    return float(len(batch["image"]))
