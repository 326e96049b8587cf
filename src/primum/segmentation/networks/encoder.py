"""A timm ViT and a multi-scale adapter that changes nothing until it has learned something."""

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from primum.errors import UserError
from primum.extras import require

STRIDES = (4, 8, 16, 32)


class Encoded(NamedTuple):
    """What the encoder makes of a batch of images.

    Attributes:
        tokens: (batch, width, rows, columns): last-block tokens on the ViT's own grid, plus the
            adapter's residual. UniAP runs on these: a bilinearly enlarged map would merge into one.
        pyramid: (batch, channels, height / s, width / s) for s = 4, 8, 16, 32.
    """

    tokens: Tensor
    pyramid: tuple[Tensor, ...]


def vit(name: str, **options: Any) -> nn.Module:
    """A ViT of timm by name, or one described by `options` alone (`name="vit"`), untrained.

    Args:
        name: As timm knows it (`vit_base_patch8_224.dino`), or `vit` for a plain
            `VisionTransformer(**options)`.
    """
    timm = require("timm", "vision")
    if name == "vit":
        return timm.models.vision_transformer.VisionTransformer(
            num_classes=0, global_pool="", dynamic_img_size=True, **options
        )
    if name.startswith("vit_") and "dinov3" not in name:
        options = {"dynamic_img_size": True} | options
    if not timm.is_model(name):
        raise UserError(
            f"timm knows no model `{name}`",
            remedy="list them: python -c \"import timm; print(timm.list_models('*vit*'))\"",
        )
    return timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)


class Stem(nn.Module):
    """Convolutions on the image itself, at strides 4, 8, 16 and 32.

    GroupNorm, not BatchNorm: teacher and student then agree, and so do one rank and many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        chain = [3, width // 2, width, width, width, width]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(groups(after), after),
                nn.GELU(),
                nn.Conv2d(after, after, 3, padding=1, bias=False),
                nn.GroupNorm(groups(after), after),
                nn.GELU(),
            )
            for before, after in pairwise(chain)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps[1:]


def groups(channels: int) -> int:
    """Groups of a GroupNorm: 8, or fewer where they do not divide the channels."""
    return next(count for count in (8, 4, 2, 1) if channels % count == 0)


class Encoder(nn.Module):
    """ViT and adapter.

    Each level of the pyramid sees the last tokens and those of an earlier block (the first quarter
    of the depth at stride 4, as in ViT-Adapter). What the stem adds, to tokens and pyramid alike,
    is multiplied by zero at first, so that UniAP begins with exactly the ViT's features
    (S2-UniSeg, Model; in the published ViT-Adapter only the injectors begin at zero).

    Args:
        vit: A ViT of timm that returns all its tokens.
        channels: Of the pyramid.
        stem: Width of the convolutions.
        reduction: The ViT sees the image this much smaller; 2 makes patch 8 act as patch 16.
    """

    def __init__(
        self, vit: nn.Module, channels: int = 256, stem: int = 64, reduction: int = 1
    ) -> None:
        super().__init__()
        self.vit, self.reduction = vit, reduction
        self.width = int(vit.num_features)  # type: ignore[arg-type]
        depth = len(vit.blocks)  # type: ignore[arg-type]
        self.depths = [round(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)]
        if min(self.depths) < 0 or len(set(self.depths)) < 4:
            self.depths = [max(0, min(depth - 1, place)) for place in self.depths]
        self.patch = int(vit.patch_embed.patch_size[0])  # type: ignore[index, union-attr]
        self.stem = Stem(stem)
        self.lift = nn.ModuleList(nn.Conv2d(2 * self.width, channels, 1) for _ in STRIDES)
        self.detail = nn.ModuleList(zero_conv(stem, channels) for _ in STRIDES)
        self.residual = zero_conv(stem, self.width)

    def backbone(self, images: Tensor) -> list[Tensor]:
        """Token maps of four depths; the last one is normalised as the ViT itself does it."""
        small = images
        if self.reduction > 1:
            small = functional.interpolate(
                images, scale_factor=1 / self.reduction, mode="bilinear", antialias=True
            )
        if any(side % self.patch for side in small.shape[-2:]):
            raise UserError(
                f"Views of {tuple(images.shape[-2:])} pixels do not divide into patches of"
                f" {self.patch * self.reduction}",
                remedy=f"choose data.views sides that are multiples of "
                f"{max(32, self.patch * self.reduction)}",
            )
        grid = tuple(side // self.patch for side in small.shape[-2:])
        caught: dict[int, Tensor] = {}
        hooks = [
            block.register_forward_hook(partial(catch, caught, depth))
            for depth, block in enumerate(self.vit.blocks)  # type: ignore[arg-type]
            if depth in self.depths[:-1]
        ]
        try:  # through `forward`, where ZeRO-3 gathers a module's own weights
            last = self.vit(small)
        finally:
            for hook in hooks:
                hook.remove()
        prefix = int(getattr(self.vit, "num_prefix_tokens", 0))
        tokens = [*(caught[depth] for depth in self.depths[:-1]), last]
        return [
            found[:, prefix:].transpose(1, 2).unflatten(2, grid).contiguous() for found in tokens
        ]

    def forward(self, images: Tensor) -> Encoded:
        """Encode (batch, 3, height, width) normalised images; sides divide by 32."""
        maps, stem = self.backbone(images), self.stem(images)
        grid = (maps[-1].shape[-2], maps[-1].shape[-1])
        tokens = maps[-1] + self.residual(functional.adaptive_avg_pool2d(stem[0], grid))
        pyramid = []
        for level, (early, fine) in enumerate(zip(maps, stem, strict=True)):
            both = self.lift[level](torch.cat([tokens, early], 1))
            both = functional.interpolate(
                both, size=fine.shape[-2:], mode="bilinear", align_corners=False
            )
            pyramid.append(both + self.detail[level](fine))
        return Encoded(tokens, tuple(pyramid))

    def tokens(self, images: Tensor) -> Tensor:
        """The tokens alone, as `forward` gives them: all that a teacher needs while training."""
        tokens = self.backbone(images)[-1]
        first = self.stem.stages[1](self.stem.stages[0](images))
        grid = (tokens.shape[-2], tokens.shape[-1])
        return tokens + self.residual(functional.adaptive_avg_pool2d(first, grid))


def catch(caught: dict[int, Tensor], depth: int, module: nn.Module, given: Any, made: Any) -> None:
    """A forward hook that keeps what a block made."""
    caught[depth] = made


def zero_conv(before: int, after: int) -> nn.Conv2d:
    """A 1x1 convolution that returns zero until it is trained."""
    conv = nn.Conv2d(before, after, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
