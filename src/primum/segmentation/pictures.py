"""Pictures as people have them, read as upright 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from primum.errors import UserError


def read_picture(path: str | Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB of any picture Pillow reads.

    Turned upright by its EXIF tag; grey, palette and CMYK become RGB, transparency is laid on
    white, 16 bits are scaled to 8 by the picture's own range of values.

    Raises:
        UserError: There is no such file, it is damaged, or no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(("I", "F")):
                return from_deep(np.asarray(image, np.float64))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise UserError("There is no such picture", file=path) from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError,
            SyntaxError) as error:  # fmt: skip
        raise UserError(f"This picture cannot be read: {error}", file=path) from None


def from_deep(values: np.ndarray) -> np.ndarray:
    """8-bit RGB of one channel with more than 8 bits, its darkest value black, its lightest white.

    >>> from_deep(np.array([[0.0, 32768.0, 65535.0]]))[0, :, 0].tolist()
    [0, 128, 255]
    """
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.repeat((scaled * 255).round().astype(np.uint8)[..., None], 3, axis=2)
