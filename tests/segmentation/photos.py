"""Pictures as people have them, and a small backbone in a file."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from primum.segmentation.backbones import Backbone

NAME = "vit_tiny_patch16_224"
THRESHOLDS = ("0.9", "0.7", "0.4")


def mosaic(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: a few plain rectangles with some noise."""
    dice = np.random.default_rng(seed)
    board = dice.integers(0, 255, (3, 4, 3))
    rows = np.arange(height) * 3 // height
    columns = np.arange(width) * 4 // width
    picture = board[rows[:, None], columns] + dice.normal(0, 5, (height, width, 3))
    return picture.clip(0, 255).astype(np.uint8)


def weights(folder: Path) -> Path:
    """A ViT of random weights, the same every time."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    file = folder / "vit.safetensors"
    save_file(Backbone(NAME, "random").network.state_dict(), file)
    return file


def odd_pictures(folder: Path) -> dict[str, tuple[int, int]]:
    """Sound pictures of many kinds by name, with height and width as they are seen."""
    (folder / "below").mkdir(parents=True)
    sound: dict[str, tuple[int, int]] = {}

    def save(name: str, picture: Image.Image, seen: tuple[int, int], **options: object) -> None:
        picture.save(folder / name, **options)
        sound[name] = seen

    colour = Image.fromarray(mosaic(60, 90))
    save("plain.png", colour, (60, 90))
    save("below/cmyk.jpg", colour.convert("CMYK"), (60, 90))
    save("grey.jpg", colour.convert("L"), (60, 90))
    save("palette.png", colour.convert("P"), (60, 90))
    save("see-through.png", colour.convert("RGBA"), (60, 90))
    deep = mosaic(60, 90)[..., 0].astype(np.uint16) * 256
    save("deep.png", Image.fromarray(deep), (60, 90))
    save("pixel.png", Image.new("RGB", (1, 1), "red"), (1, 1))
    save("uneven.png", Image.fromarray(mosaic(61, 97)), (61, 97))
    save("thin.png", Image.fromarray(mosaic(5, 300)), (5, 300))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    save("turned.jpg", colour, (90, 60), exif=turned)
    save("<b>&\"'.png", colour, (60, 90))
    return sound


def bad_pictures(folder: Path) -> list[str]:
    """Files that are none, beside the sound ones."""
    whole = (folder / "grey.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.jpg").write_text("no picture")
    return ["cut.jpg", "empty.png", "words.jpg"]
