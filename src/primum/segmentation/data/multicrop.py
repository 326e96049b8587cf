"""DINO's views: two large crops for teacher and student, several small ones for the student."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from primum.segmentation.data.views import Views, resized


@dataclass(frozen=True)
class MultiCrop:
    """Cuts global and local views out of an image, each anywhere in it.

    Attributes:
        side, local_side: Pixels of a global and of a local view.
        local: How many local views.
        global_scale, local_scale: Smallest and largest area, as shares of the image's.
        jitter: Strength of the colour changes (1: as in DINO).
    """

    side: int = 224
    local_side: int = 96
    local: int = 10
    global_scale: tuple[float, float] = (0.4, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.4)
    jitter: float = 1.0
    recolour: Views = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "recolour", Views(jitter=self.jitter))

    def __call__(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Cut the views of one (3, height, width) uint8 image.

        Returns:
            `image` (2, 3, side, side) uint8; `crops` (local, 3, local_side, local_side) uint8;
            `boxes` (2 + local, 4) left, top, right, bottom within 0..1 of the image; `flips`
            (2 + local,) bool.
        """
        cut = [self.cut(image, self.side, self.global_scale, generator) for _ in range(2)]
        cut += [self.cut(image, self.local_side, self.local_scale, generator)
                for _ in range(self.local)]  # fmt: skip
        views, boxes, flips = zip(*cut, strict=True)
        return {
            "image": torch.stack(views[:2]),
            "crops": torch.stack(views[2:]) if self.local else image.new_zeros(0, 3, 1, 1),
            "boxes": torch.tensor(boxes),
            "flips": torch.tensor(flips),
        }

    def cut(
        self, image: Tensor, side: int, scale: tuple[float, float], generator: torch.Generator
    ) -> tuple[Tensor, list[float], bool]:
        """One view, its box and whether it is mirrored."""
        low, high = scale
        share, shape, x, y, coin = torch.rand(5, generator=generator).tolist()
        height, width = image.shape[1:]
        share = low + (high - low) * share
        ratio = math.exp(math.log(3 / 4) + math.log(16 / 9) * shape)
        wide = max(1, min(width, round(math.sqrt(share * height * width * ratio))))
        tall = max(1, min(height, round(math.sqrt(share * height * width / ratio))))
        left, top = round(x * (width - wide)), round(y * (height - tall))
        piece = resized(image[:, top : top + tall, left : left + wide], side)
        flip = coin < 0.5
        box = [left / width, top / height, (left + wide) / width, (top + tall) / height]
        return self.recolour.recoloured(piece.flip(-1) if flip else piece, generator), box, flip
