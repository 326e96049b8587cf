"""Any picture file as upright 8-bit RGB, as a viewer shows it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from primum.errors import UserError
from primum.extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

REMEDY = "replace or remove the file; other pictures are not affected"


def read_picture(
    content: str | Path | bytes, name: str | Path | None = None, frame: int = 0
) -> Image:
    """Decode a picture.

    Turned upright by its EXIF tag; grey, palette and CMYK become RGB, transparency is laid on
    white, 16 bits and floats are scaled to 8 by the picture's own range of values.

    Args:
        content: A path, or the bytes of a file.
        name: What an error calls it, where there is no path.
        frame: Of a TIFF with several pages.

    Raises:
        UserError: There is no such file, it is damaged, or no picture.
    """
    with opened(content, name, frame) as picture:
        return shown(picture)


@contextmanager
def opened(
    content: str | Path | bytes, name: str | Path | None = None, frame: int = 0
) -> Iterator[Image]:
    """A picture whose pixels are not decoded yet; what goes wrong inside is told in one sentence.

    Args:
        content, name, frame: As in `read_picture`.

    Raises:
        UserError: As in `read_picture`.
    """
    image = require("PIL.Image", "vision")
    name = name if isinstance(content, bytes) else content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF blocks of otherwise sound photographs
            source = io.BytesIO(content) if isinstance(content, bytes) else content
            with image.open(source) as picture:
                picture.seek(frame)
                yield picture
    except FileNotFoundError:
        raise UserError("There is no such picture", file=name) from None
    except (OSError, EOFError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        problem = f"This picture cannot be read: {error}"
        raise UserError(problem, file=name, remedy=REMEDY) from error


def shown(picture: Image) -> Image:
    """An opened picture as upright RGB."""
    image = require("PIL.Image", "vision")
    picture = require("PIL.ImageOps", "vision").exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # one channel of more than 8 bits
        return in_eight_bits(picture).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        picture = image.alpha_composite(image.new("RGBA", seen.size, "white"), seen)
    return picture.convert("RGB")


def in_eight_bits(picture: Image) -> Image:
    """One channel with its darkest value black and its lightest white.

    >>> from PIL import Image
    >>> deep = Image.new("I", (2, 1), 1000)
    >>> deep.putpixel((0, 0), 60_000)
    >>> [in_eight_bits(deep).getpixel((place, 0)) for place in (0, 1)]
    [255, 0]
    """
    import numpy as np

    values = np.asarray(picture, np.float64)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    made: Image = require("PIL.Image", "vision").fromarray((scaled * 255).round().astype(np.uint8))
    return made
