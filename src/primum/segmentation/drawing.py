"""Overlays: a picture beside its regions, from fine to coarse."""

from __future__ import annotations

import io

import numpy as np

from primum.segmentation.colours import palette
from primum.segmentation.nested import Nested
from primum.segmentation.peers.peer import enlarged
from primum.segmentation.snapping import shrunk

SHOWN = 420  # pixels of the longer side in a strip
GAP = 10


def fitted(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width with the longer side at most `longest`.

    >>> fitted(3000, 4000, 400), fitted(1, 1, 400)
    ((300, 400), (1, 1))
    """
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(image: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A picture of the same size under its regions' colours, with light borders.

    Args:
        image: (height, width, 3) uint8.
        labels: (height, width).
        colours: (labels, 3) uint8.
    """
    grey = image.astype(np.float32).mean(2, keepdims=True)
    base = 0.5 * image + 0.5 * grey
    shown = 0.42 * base + 0.58 * colours[labels].astype(np.float32)
    shown[borders(labels)] = 0.2 * shown[borders(labels)] + 0.8 * 255
    return shown.clip(0, 255).astype(np.uint8)


def borders(labels: np.ndarray) -> np.ndarray:
    """(height, width) bool: pixels whose right or lower neighbour lies in another region."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def strip(image: np.ndarray, nested: Nested, longest: int = SHOWN) -> bytes:
    """A JPEG: the picture, then its levels from fine to coarse, each with its number of regions."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = fitted(image.shape[0], image.shape[1], longest)
    small = shrunk(image, height, width)
    finest = enlarged(nested.finest, height, width)
    panes = [small]
    titles = ["picture"]
    colours = palette(nested)
    for level, row in enumerate(nested.ladder):
        panes.append(overlay(small, row[finest], colours[level]))
        titles.append(f"level {level + 1}: {nested.counts[level]}")
    columns = len(panes) if height > width else (len(panes) + 1) // 2
    rows = -(-len(panes) // columns)
    pane = max(width, 120)
    sheet = Image.new(
        "RGB", (columns * (pane + GAP) + GAP, rows * (height + 28) + GAP), (250, 250, 248)
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for place, (shown, title) in enumerate(zip(panes, titles, strict=True)):
        left = GAP + place % columns * (pane + GAP)
        top = GAP + place // columns * (height + 28)
        sheet.paste(Image.fromarray(shown), (left, top))
        draw.text((left + 1, top + height + 4), title, (84, 88, 96), font)
    packed = io.BytesIO()
    sheet.save(packed, "JPEG", quality=88)
    return packed.getvalue()
