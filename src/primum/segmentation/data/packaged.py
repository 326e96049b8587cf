"""Photographs that installed packages carry and that models may be trained on and shipped."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from primum.errors import UserError
from primum.extras import require
from primum.segmentation.data.images import read_image
from primum.segmentation.data.scenes import Scenes
from primum.segmentation.data.views import resized

# CC0 or public domain but for scikit-learn's two (CC BY 2.0: danielbuechele, vultilion on Flickr)
TRAIN = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "skimage": (
        "data/brick.png", "data/camera.png", "data/clock_motion.png", "data/coins.png",
        "data/grass.png", "data/gravel.png", "data/hubble_deep_field.jpg", "data/ihc.png",
        "data/retina.jpg",
    ),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}  # fmt: skip
# CC0 or public domain; never in training, so that a demo shows what is new to its model
HELD_OUT = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg")
}


def photographs(chosen: dict[str, tuple[str, ...]]) -> list[Path]:
    """Where the installed packages keep them.

    Raises:
        UserError: A package is not installed, or lacks one of its photographs.
    """
    found = []
    for package, files in chosen.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            require(package, "segmentation")  # says how to install it
            raise UserError(f"The package {package} has no folder")
        found += [Path(spec.origin).parent / file for file in files]
    for file in found:
        if not file.is_file():
            raise UserError("A photograph of this package is missing", file=file)
    return found


class PhotoCrops:
    """Squares cut anywhere out of the training photographs, between synthetic scenes.

    Item `index` of one seed is always the same.

    Args:
        size: How many.
        seed: Of places and scenes.
        side: Pixels of a square.
        scenes: Share of synthetic scenes; their masks are not read.
        spans: Smallest and largest square in a photograph, as shares of its shorter side.
    """

    def __init__(
        self,
        size: int,
        seed: int = 0,
        side: int = 128,
        scenes: float = 0.3,
        spans: tuple[float, float] = (0.15, 0.7),
    ) -> None:
        self.size, self.seed, self.side = size, seed, side
        self.share, self.spans = scenes, spans
        self.files = photographs(TRAIN)
        self.photos = [read_image(file) for file in self.files]
        self.scenes = Scenes(size, seed, side)

    def __len__(self) -> int:
        return self.size

    def name(self, index: int) -> str:
        """What item `index` is made from; the fingerprint of a run is over these names."""
        digest = hashlib.sha256(" ".join(file.name for file in self.files).encode()).hexdigest()
        return f"crop-{self.seed}-{index:06d}-{digest[:8]}"

    def read(self, index: int) -> Tensor:
        """(3, side, side) uint8."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        kind, which, share, x, y = torch.rand(5, generator=draw).tolist()
        if kind < self.share:
            return self.scenes.read(index)
        photo = self.photos[int(which * len(self.photos))]
        height, width = photo.shape[1:]
        shorter = min(height, width)
        span = max(1, round(shorter * (self.spans[0] + (self.spans[1] - self.spans[0]) * share)))
        top, left = round(y * (height - span)), round(x * (width - span))
        return resized(photo[:, top : top + span, left : left + span].contiguous(), self.side)
