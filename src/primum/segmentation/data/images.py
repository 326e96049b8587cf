"""Any photograph as (3, height, width) uint8, upright, whatever its file made of it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from primum.pictures import read_picture

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def read_image(content: str | Path | bytes, name: str | Path | None = None) -> Tensor:
    """Decode an image file; see `primum.pictures.read_picture`.

    Args:
        content: A path, or the bytes of a file.
        name: What an error calls it, where there is no path.

    Returns:
        (3, height, width) uint8.

    Raises:
        UserError: It is no picture, or cut short.
    """
    pixels = np.array(read_picture(content, name))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
