"""The whole network, student or teacher: images in, masks and prototypes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from primum.segmentation.backbones import build
from primum.segmentation.networks.decoder import Prediction, QueryDecoder
from primum.segmentation.networks.encoder import Encoder, vit
from primum.segmentation.networks.prototypes import PrototypeHead

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as most of timm's ViTs expect


class UniSeg(nn.Module):
    """Encoder, query decoder and prototype head.

    A teacher's query is an encoder feature and a student's a decoder state of another width, so a
    projection leads from the one space to the other before the head that both share.

    Args:
        backbone: Arguments of `networks.encoder.vit`: `name`, `pretrained`, and timm's own;
            `pretrained` may also be a local .safetensors file. Nothing is downloaded or read before
            `load_pretrained`, so that a trained network is rebuilt offline.
        channels, stem, reduction: See `Encoder`.
        decoder: Arguments of `QueryDecoder`.
        head: Arguments of `PrototypeHead`.
        mean, std: What the ViT expects of images within 0..1.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        channels: int = 256,
        stem: int = 64,
        reduction: int = 1,
        decoder: Mapping[str, Any] | None = None,
        head: Mapping[str, Any] | None = None,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        super().__init__()
        self.backbone = dict(backbone)
        self.encoder = Encoder(self.fresh_vit(), channels, stem, reduction)
        self.decoder = QueryDecoder(channels, **(decoder or {}))
        self.projection = nn.Linear(self.hidden, self.encoder.width)
        self.head = PrototypeHead(self.encoder.width, **(head or {}))
        self.mean, self.std = tuple(mean), tuple(std)

    def fresh_vit(self) -> nn.Module:
        """The ViT with random weights."""
        return vit(**{name: one for name, one in self.backbone.items() if name != "pretrained"})

    def load_pretrained(self) -> None:
        """Fetch the ViT's weights, where the backbone asks for pretrained ones.

        Raises:
            UserError: They cannot be had, or the file holds those of another network.
        """
        options = dict(self.backbone)
        name, source = options.pop("name"), options.pop("pretrained", False)
        if source:
            network, *_ = build(name, None if source is True else str(source), options)
            self.encoder.vit.load_state_dict(network.state_dict())

    @property
    def hidden(self) -> int:
        """Channels of a decoded query."""
        return self.decoder.content.shape[1]

    def normalised(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width) uint8 to what the ViT expects, in the weights' precision."""
        return normalised(images, self.mean, self.std, self.decoder.content.dtype)

    def forward(self, images: Tensor) -> Prediction:
        """Masks of uint8 images (batch, 3, height, width) whose sides divide by 32."""
        return self.decoder(self.encoder(self.normalised(images)).pyramid)

    def named(self, queries: Tensor) -> Tensor:
        """(..., hidden) decoded queries to (..., K) cosines with the prototypes."""
        return self.head(self.projection(queries))

    def tokens(self, images: Tensor) -> Tensor:
        """(batch, rows, columns, width) features for UniAP."""
        return self.encoder.tokens(self.normalised(images)).permute(0, 2, 3, 1)


def normalised(
    images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> Tensor:
    """(batch, 3, height, width) uint8 to `dtype`, less `mean` and over `std` a channel."""
    centre, spread = (
        torch.tensor(values, device=images.device, dtype=dtype)[:, None, None]
        for values in (mean, std)
    )
    return (images.to(dtype) / 255 - centre) / spread
