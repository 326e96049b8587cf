"""Pictures as people have them, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from primum import pictures


def read_picture(path: str | Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB of any picture; see `primum.pictures.read_picture`.

    Raises:
        UserError: There is no such file, it is damaged, or no picture.
    """
    return np.asarray(pictures.read_picture(path))
