"""Synthetic scenes with exact masks: textured, shaded objects, two of them in one colour.

Colour alone does not solve them: a texture splits what belongs together, shading makes one object
light and dark, and two objects (or an object and what lies behind it) can share a colour. Nothing
is drawn from any data set, so scenes may be shipped, and a seed gives the same scenes everywhere.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primum.extras import require
from primum.files import atomic_folder

SMALLEST_VISIBLE = 0.45  # share of its own area an object must keep when others cover it


@dataclass(frozen=True)
class Scene:
    """One rendered scene.

    Attributes:
        image: (side, side, 3) uint8.
        masks: (objects, side, side) bool, the visible part of each object; they never overlap.
    """

    image: np.ndarray
    masks: np.ndarray


class Scenes:
    """Scenes as a source of images; their masks come from `masks` alone, which training never asks.

    Args:
        size: How many.
        seed: Scenes of different seeds differ; scene `index` of one seed is always the same.
        side: Pixels, height and width.
        objects: Fewest and most objects.
    """

    def __init__(
        self, size: int, seed: int = 0, side: int = 128, objects: tuple[int, int] = (3, 6)
    ) -> None:
        if size < 1 or side < 32 or not 2 <= objects[0] <= objects[1]:
            raise ValueError(f"{size=}, {side=}, {objects=} make no scenes")
        self.size, self.seed, self.side = size, seed, side
        self.objects = (objects[0], objects[1])

    def __len__(self) -> int:
        return self.size

    def name(self, index: int) -> str:
        return f"scene-{self.seed}-{index:06d}"

    def read(self, index: int) -> Tensor:
        """(3, side, side) uint8."""
        return torch.from_numpy(self.scene(index).image).permute(2, 0, 1).contiguous()

    def masks(self, index: int) -> Tensor:
        """(objects, side, side) bool: the ground truth, for evaluation."""
        return torch.from_numpy(self.scene(index).masks)

    def scene(self, index: int) -> Scene:
        dice = np.random.Generator(np.random.PCG64([self.seed, index]))
        return render(dice, self.side, int(dice.integers(self.objects[0], self.objects[1] + 1)))


def render(dice: np.random.Generator, side: int, count: int) -> Scene:
    """Paint a background, then `count` objects over it, each with its shadow."""
    y, x = np.mgrid[:side, :side] + 0.5
    colours = palette(dice, count + 1)
    twins = dice.choice(count, 2, replace=False)
    colours[twins[1]] = colours[twins[0]]
    image = paint(dice, x, y, side, colours[-1])
    masks = np.zeros((0, side, side), bool)
    areas: list[int] = []
    while len(masks) < count:
        shape = contour(dice, x, y, side)
        kept = masks & ~shape
        if (kept.sum((1, 2)) < SMALLEST_VISIBLE * np.array(areas)).any():
            continue  # it would hide one of the others
        areas.append(int(shape.sum()))
        image *= 1 - 0.35 * blurred_shadow(shape, side)[..., None]
        image[shape] = paint(dice, x, y, side, colours[len(masks)])[shape]
        masks = np.concatenate([kept, shape[None]])
    image += dice.normal(0, 6, image.shape)
    return Scene(image.clip(0, 255).round().astype(np.uint8), masks)


def palette(dice: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3) colours of evenly spread hue and random lightness, 0..255."""
    hue = (dice.random() + (np.arange(count) + dice.uniform(-0.25, 0.25, count)) / count) % 1
    dice.shuffle(hue)
    waves = np.cos(2 * np.pi * (hue[:, None] + np.array([0, 1 / 3, 2 / 3])))
    return 255 * (
        dice.uniform(0.4, 0.62, (count, 1)) + dice.uniform(0.12, 0.26, (count, 1)) * waves
    )


def contour(dice: np.random.Generator, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    """A closed shape around a random centre: radius as a few waves of the angle."""
    centre = dice.uniform(0.16, 0.84, 2) * side
    radius = dice.uniform(0.1, 0.2) * side
    stretch, turn = dice.uniform(0.7, 1.0), dice.uniform(0, np.pi)
    u, v = x - centre[0], y - centre[1]
    u, v = u * np.cos(turn) + v * np.sin(turn), (v * np.cos(turn) - u * np.sin(turn)) / stretch
    angle = np.arctan2(v, u)
    edge = np.ones_like(angle)
    for wave, amplitude in zip((2, 3, 4, 5), (0.1, 0.12, 0.12, 0.08), strict=True):
        edge += dice.uniform(-amplitude, amplitude) * np.cos(wave * angle + dice.uniform(0, 6.3))
    return np.hypot(u, v) < radius * edge


def paint(
    dice: np.random.Generator, x: np.ndarray, y: np.ndarray, side: int, colour: np.ndarray
) -> np.ndarray:
    """(side, side, 3): one colour under a texture and a light from somewhere."""
    texture = pattern(dice, x, y)[..., None]
    accent = colour + dice.normal(0, 1, 3) * 45  # the pattern's second colour
    strength = dice.uniform(0.15, 0.35)
    surface = colour + texture * (0.7 * (accent - colour) + strength * colour)
    direction = dice.uniform(0, 2 * np.pi)
    along = ((x - side / 2) * np.cos(direction) + (y - side / 2) * np.sin(direction)) / side
    return surface * (1 + dice.uniform(0.2, 0.6) * along[..., None])


def pattern(dice: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(side, side) within -1..1: stripes, checks, spots or mottle."""
    kind, period = dice.integers(4), dice.uniform(5, 9)
    turn, phase = dice.uniform(0, np.pi), dice.uniform(0, 2 * np.pi, 2)
    u = 2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period + phase[0]
    v = 2 * np.pi * (y * np.cos(turn) - x * np.sin(turn)) / period + phase[1]
    if kind == 0:
        return np.sign(np.sin(u))
    if kind == 1:
        return np.sign(np.sin(u) * np.sin(v))
    if kind == 2:
        return np.where(np.sin(u) + np.sin(v) > 0.8, 1.0, -0.5)
    return np.sin(u + 1.5 * np.sin(0.6 * v)) * np.sin(v + 1.5 * np.sin(0.7 * u))


def blurred_shadow(shape: np.ndarray, side: int) -> np.ndarray:
    """(side, side) within 0..1: the shape moved a little to the lower right, with a soft edge."""
    move = max(1, side // 32)
    shadow = np.pad(shape, ((move, 0), (move, 0)))[:side, :side].astype(float)
    for axis in (0, 1):
        shadow = np.mean([np.roll(shadow, step, axis) for step in (-2, -1, 0, 1, 2)], 0)
    return shadow


def write_coco(scenes: Scenes, folder: str | Path) -> Path:
    """Write scenes as pictures and their exact masks as a COCO file, for any benchmark to read.

    Returns:
        The annotations' path, `folder/masks.json`; the pictures lie beside it.
    """
    coco = require("pycocotools.mask", "segmentation")
    image = require("PIL.Image", "vision")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with atomic_folder(folder) as partial:
        for index in range(len(scenes)):
            scene, name = scenes.scene(index), f"{scenes.name(index)}.png"
            image.fromarray(scene.image).save(partial / name)
            height, width = scene.image.shape[:2]
            images.append({"id": index, "file_name": name, "height": height, "width": width})
            for mask in scene.masks:
                code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": 1,
                        "segmentation": code | {"counts": code["counts"].decode()},
                        "area": int(mask.sum()),
                        "bbox": coco.toBbox(code).tolist(),
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": 1, "name": "object"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (partial / "masks.json").write_text(json.dumps(content))
    return Path(folder) / "masks.json"
