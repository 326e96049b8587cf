"""dots.ocr's vision tower: a ViT over each picture at its own size, 2-D rotary positions.

Patches come in blocks of merge x merge neighbours, as the image processor lays them out, so that
the merger takes four consecutive rows. Every picture attends to itself alone. Parameters have the
names of the released checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from primum.parsing.targets.dots.configuration import DotsVisionConfig


def patch_places(grid: Tensor, merge: int) -> Tensor:
    """Row and column of every patch (patches, 2), in the order of the image processor.

    Args:
        grid: Time, rows and columns of each picture (pictures, 3).

    >>> patch_places(torch.tensor([[1, 2, 4]]), 2).T.tolist()
    [[0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 2, 3, 2, 3]]
    """
    places = []
    for time, rows, columns in grid.tolist():
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        place = torch.stack([row, column], -1)
        blocks = place.view(rows // merge, merge, columns // merge, merge, 2).transpose(1, 2)
        places.append(blocks.reshape(-1, 2).repeat(time, 1))
    return torch.cat(places).to(grid.device)


def rotary(places: Tensor, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (patches, size) in float32 or, on float64 places, in float64.

    The first half of the frequencies turns with the row, the second with the column; the whole is
    repeated for the two halves of a head.
    """
    wide = torch.float64 if places.dtype == torch.float64 else torch.float32
    steps = torch.arange(0, size // 2, 2, device=places.device, dtype=wide)
    angles = places.to(wide)[:, :, None] * theta ** (-2 * steps / size)
    angles = angles.flatten(1).repeat(1, 2)
    return angles.cos(), angles.sin()


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (patches, heads, size) by the angles of its patch, in the angles' precision."""
    wide = x.to(cos.dtype)
    first, second = wide.chunk(2, -1)
    half = torch.cat([-second, first], -1)
    return (wide * cos[:, None] + half * sin[:, None]).to(x.dtype)


class DotsPatchEmbed(nn.Module):
    """Flattened patches to features, normalised."""

    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.shape = (config.num_channels, config.temporal_patch_size)
        self.side = config.patch_size
        self.proj = nn.Conv2d(config.num_channels, config.embed_dim, self.side, self.side)
        self.norm = Qwen2RMSNorm(config.embed_dim, eps=config.rms_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """(patches, channels * time * side * side) to (patches, width)."""
        patches = pixels.view(-1, *self.shape, self.side, self.side)[:, :, 0]
        return self.norm(self.proj(patches).flatten(1))


class DotsPatchify(nn.Module):
    """Holds the patch embedding under the released name."""

    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.patchifier = DotsPatchEmbed(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """See `DotsPatchEmbed`."""
        return self.patchifier(pixels)


class DotsAttention(nn.Module):
    """Full attention within each picture."""

    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.use_bias)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim, bias=config.use_bias)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], lengths: list[int]) -> Tensor:
        """(patches, width) to the same; `lengths` are the patches of each picture."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        query, key = turned(query, *turn), turned(key, *turn)
        parts = [
            F.scaled_dot_product_attention(*(one.transpose(0, 1)[None] for one in picture))
            for picture in zip(
                query.split(lengths), key.split(lengths), value.split(lengths), strict=True
            )
        ]
        return self.proj(torch.cat(parts, 2)[0].transpose(0, 1).flatten(1))


class DotsMlp(nn.Module):
    """SwiGLU: `fc1` is the gate, `fc3` what it lets through, `fc2` leads back."""

    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        width, inner, bias = config.embed_dim, config.intermediate_size, config.use_bias
        self.fc1 = nn.Linear(width, inner, bias=bias)
        self.fc2 = nn.Linear(inner, width, bias=bias)
        self.fc3 = nn.Linear(width, inner, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(patches, width) to the same."""
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))


class DotsVisionBlock(nn.Module):
    """Attention and SwiGLU, each behind its norm and added to what came in."""

    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.norm1 = Qwen2RMSNorm(config.embed_dim, eps=config.rms_norm_eps)
        self.attn = DotsAttention(config)
        self.norm2 = Qwen2RMSNorm(config.embed_dim, eps=config.rms_norm_eps)
        self.mlp = DotsMlp(config)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], lengths: list[int]) -> Tensor:
        """(patches, width) to the same."""
        x = x + self.attn(self.norm1(x), turn, lengths)
        return x + self.mlp(self.norm2(x))


class DotsMerger(nn.Module):
    """Four neighbouring patches to one token of the decoder's width."""

    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.wide = config.embed_dim * config.spatial_merge_size**2
        self.ln_q = nn.LayerNorm(config.embed_dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(self.wide, self.wide), nn.GELU(), nn.Linear(self.wide, config.hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(patches, width) to (patches / merge², decoder's width)."""
        return self.mlp(self.ln_q(x).view(-1, self.wide))


class DotsVisionTower(nn.Module):
    """Pictures to image tokens."""

    def __init__(self, config: DotsVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = DotsPatchify(config)
        self.blocks = nn.ModuleList(
            DotsVisionBlock(config) for _ in range(config.num_hidden_layers)
        )
        if config.post_norm:
            self.post_trunk_norm = Qwen2RMSNorm(config.embed_dim, eps=config.rms_norm_eps)
        self.merger = DotsMerger(config)

    def forward(self, pixels: Tensor, grid: Tensor) -> Tensor:
        """Image tokens of all pictures, one after another.

        Args:
            pixels: Flattened patches of all pictures (patches, 3 * 14 * 14).
            grid: Time, rows and columns of each picture (pictures, 3).
        """
        config = self.config
        x = self.patch_embed(pixels.to(self.merger.ln_q.weight.dtype))
        places = patch_places(grid, config.spatial_merge_size).to(x.device)
        if x.dtype == torch.float64:
            places = places.double()
        size = config.embed_dim // config.num_attention_heads
        turn = rotary(places, size, config.rope_theta)
        lengths = grid.prod(-1).tolist()  # the release knows pictures of one frame only
        for block in self.blocks:
            x = block(x, turn, lengths)
        if config.post_norm:
            x = self.post_trunk_norm(x)
        return self.merger(x)
