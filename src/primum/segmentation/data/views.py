"""What teacher and student see of an image: all of it, and small pieces of it in other colours."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as warp


@dataclass(frozen=True)
class Views:
    """Cuts one global view for the teacher and a few local ones, inside it, for the student.

    All randomness comes from the generator that is passed in, so a view is a function of
    (seed, epoch, image).

    Attributes:
        side: Pixels of the global view, a square.
        local_side: Pixels of a local view.
        crops: Local views an image.
        scale: Smallest and largest area of a local view, as a share of the global one.
        global_scale: The same of the global view, as a share of the largest square in the image.
        jitter: Strength of the student's colour changes (0: none, 1: as in DINO).
    """

    side: int = 512
    local_side: int = 256
    crops: int = 2
    scale: tuple[float, float] = (0.05, 0.4)
    global_scale: tuple[float, float] = (1.0, 1.0)
    jitter: float = 1.0

    def __call__(self, image: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Cut the views of one (3, height, width) uint8 image.

        Returns:
            `image` (3, side, side) uint8; `crops` (crops, 3, local_side, local_side) uint8;
            `boxes` (crops, 4) left, top, right, bottom within 0..1 of the global view; `flips`
            (crops,) bool, whether a local view is mirrored; `square` (3,) left, top and side of
            the global view, in pixels of the image.
        """

        def draw(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        height, width = image.shape[1:]
        span = max(1, round(min(height, width) * math.sqrt(draw(*self.global_scale))))
        top, left = round(draw(0, height - span)), round(draw(0, width - span))
        square = image[:, top : top + span, left : left + span]
        crops, boxes, flips = [], [], []
        for _ in range(self.crops):
            share, shape = draw(*self.scale), math.exp(draw(math.log(3 / 4), math.log(4 / 3)))
            wide = min(1.0, math.sqrt(share * shape))
            high = min(1.0, math.sqrt(share / shape))
            x, y = draw(0, 1 - wide), draw(0, 1 - high)
            corners = [min(round(edge * span), span - 1) for edge in (x, y)]
            for edge, low in zip((x + wide, y + high), tuple(corners), strict=True):
                corners.append(max(round(edge * span), low + 1))
            piece = square[:, corners[1] : corners[3], corners[0] : corners[2]]
            piece = resized(piece, self.local_side)
            flip = draw(0, 1) < 0.5
            crops.append(self.recoloured(piece.flip(-1) if flip else piece, generator))
            boxes.append([corner / span for corner in corners])
            flips.append(flip)
        return {
            "image": resized(square, self.side),
            "crops": torch.stack(crops),
            "boxes": torch.tensor(boxes),
            "flips": torch.tensor(flips),
            "square": torch.tensor([left, top, span]),
        }

    def recoloured(self, view: Tensor, generator: torch.Generator) -> Tensor:
        """Brightness, contrast, saturation and hue, then grey, in DINO's proportions."""
        chance, *amounts, grey = torch.rand(6, generator=generator).tolist()
        if self.jitter <= 0:
            return view
        brightness, contrast, saturation, hue = (
            (2 * amount - 1) * self.jitter for amount in amounts
        )
        if chance < 0.8:
            view = warp.adjust_brightness(view, 1 + 0.4 * brightness)
            view = warp.adjust_contrast(view, 1 + 0.4 * contrast)
            view = warp.adjust_saturation(view, 1 + 0.2 * saturation)
            view = warp.adjust_hue(view, 0.1 * hue)
        if grey < 0.2 * self.jitter:
            view = warp.rgb_to_grayscale(view, num_output_channels=3)
        return view


def resized(image: Tensor, side: int) -> Tensor:
    """(3, height, width) uint8 to a square; a view of exactly that size stays as it is."""
    if image.shape[-2:] == (side, side):
        return image
    return warp.resize(image, [side, side], antialias=True)
