"""Any photograph as (3, height, width) uint8, upright, whatever its file made of it."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from primum.errors import UserError
from primum.extras import require

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def read_image(content: str | Path | bytes, name: str | Path | None = None) -> Tensor:
    """Decode an image file.

    The EXIF rotation is applied, grey, CMYK and palette images become RGB, 16 bits become 8, and
    transparency is laid on white.

    Args:
        content: A path, or the bytes of a file.
        name: What an error calls it, where there is no path.

    Returns:
        (3, height, width) uint8.

    Raises:
        UserError: It is no image, or cut short.
    """
    image = require("PIL.Image", "vision")
    upright = require("PIL.ImageOps", "vision").exif_transpose
    name = name if isinstance(content, bytes) else content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF blocks of otherwise sound photographs
            opened = image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
            opened.load()
            picture = upright(opened)
    except FileNotFoundError:
        raise UserError("There is no such image", file=name) from None
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise UserError(
            f"This image cannot be read ({error})",
            file=name,
            remedy="replace or remove the file; other images are not affected",
        ) from error
    if picture.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel, one channel
        deep = np.asarray(picture).astype(np.float64)
        top = 65535 if deep.max(initial=0) > 255 else 255
        grey = (deep.clip(0, top) * (255 / top)).round().astype(np.uint8)
        pixels = np.repeat(grey[..., None], 3, -1)
    else:
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            seen = picture.convert("RGBA")
            picture = image.alpha_composite(image.new("RGBA", seen.size, "white"), seen)
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
