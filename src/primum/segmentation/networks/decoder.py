"""Queries that become masks: Mask2Former's decoder with two kinds of query."""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """What the decoder says of a batch of images; instance queries come first.

    Attributes:
        masks: A layer: (batch, queries, height / 4, width / 4) logits, the last layer last.
        objectness: A layer: (batch, queries) logits, whether the query stands for a region.
        queries: (batch, queries, hidden) of the last layer.
    """

    masks: tuple[Tensor, ...]
    objectness: tuple[Tensor, ...]
    queries: Tensor


class QueryDecoder(nn.Module):
    """Mask2Former's pixel decoder and masked-attention decoder, as transformers has them.

    Instance and semantic queries share all weights; a learned token of its kind is added to each
    (S2-UniSeg, Model). Classes are not predicted: one logit tells a region from nothing.

    Args:
        channels: Of the pyramid that comes in.
        hidden: Of queries and pixels; a multiple of 32.
        instances, semantic: Queries of each kind.
        layers: Masked-attention layers.
        pixel_layers: Deformable-attention layers of the pixel decoder.
        heads: Of every attention.
        feedforward: Width of the decoder's feed-forward layers.
        anchored: Instance queries begin as what the image shows at the points of a square grid, so
            `instances` is a square number; otherwise they are learned and the same for every image,
            as in the paper. A mask that starts as "all that looks like this point" needs far fewer
            steps to learn than one that has to find its place first.
    """

    def __init__(
        self,
        channels: int = 256,
        hidden: int = 256,
        instances: int = 150,
        semantic: int = 50,
        layers: int = 9,
        pixel_layers: int = 6,
        heads: int = 8,
        feedforward: int = 2048,
        anchored: bool = False,
    ) -> None:
        super().__init__()
        from transformers import Mask2FormerConfig
        from transformers.models.mask2former import modeling_mask2former as mask2former

        if hidden % 32:
            raise ValueError(f"hidden is {hidden}; GroupNorm needs a multiple of 32")
        config = Mask2FormerConfig(
            feature_size=hidden,
            mask_feature_size=hidden,
            hidden_dim=hidden,
            encoder_feedforward_dim=feedforward // 2,
            dim_feedforward=feedforward,
            encoder_layers=pixel_layers,
            decoder_layers=layers + 1,
            num_attention_heads=heads,
            dropout=0.0,  # one rank and many must agree
        )
        self.kinds, self.anchors = (instances, semantic), math.isqrt(instances) * anchored
        if anchored and self.anchors**2 != instances:
            raise ValueError(f"{instances} anchored queries do not fill a square grid")
        self.pixels = mask2former.Mask2FormerPixelDecoder(config, [channels] * 4)
        # its own comes from a constructor that ignores `torch.device("meta")`
        self.pixels.level_embed = nn.Parameter(torch.empty(3, hidden))
        self.layers: Any = cast(Any, mask2former.Mask2FormerMaskedAttentionDecoder(config))
        if anchored:
            self.layers.mask_predictor = LookAlike(self.layers.mask_predictor, self.anchors)
        self.place = mask2former.Mask2FormerSinePositionEmbedding(hidden // 2, normalize=True)
        learned = semantic if anchored else instances + semantic
        self.content = nn.Parameter(torch.randn(learned, hidden))
        self.position = nn.Parameter(torch.randn(learned, hidden))
        self.kind = nn.Parameter(torch.randn(2, hidden) * 0.02)  # [INS] and [SEM]
        self.scale = nn.Parameter(torch.randn(3, hidden))
        self.objectness = nn.Linear(hidden, 1)
        self.initialise(mask2former)
        if anchored:  # likeness alone decides at first
            last = self.layers.mask_predictor.embed.layers[-1].layers[0]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def initialise(self, mask2former: object) -> None:
        """Mask2Former's own initialisation, which transformers keeps with its whole model."""
        family = mask2former.Mask2FormerPreTrainedModel  # type: ignore[attr-defined]
        keeper = family.__new__(family)
        nn.Module.__init__(keeper)
        keeper.config = self.layers.config
        for part in (*self.pixels.modules(), *self.layers.modules()):
            family._init_weights(keeper, part)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Prediction:
        pixels = self.pixels(list(pyramid), return_dict=True)
        maps, places, sizes = [], [], []
        for level, found in enumerate(pixels.multi_scale_features):
            place = self.place(found.shape, found.device, found.dtype).flatten(2)
            places.append(place.permute(2, 0, 1))
            maps.append(found.flatten(2).permute(2, 0, 1) + self.scale[level])
            sizes.append(found.shape[-2:])
        batch = len(pyramid[0])
        content = self.content[:, None].expand(-1, batch, -1)
        position = self.position[:, None].expand(-1, batch, -1)
        if self.anchors:
            finest = pixels.multi_scale_features[-1]
            place = self.place(finest.shape, finest.device, finest.dtype)
            content = torch.cat([at_anchors(finest, self.anchors), content])
            position = torch.cat([at_anchors(place, self.anchors), position])
        kinds = torch.cat(
            [row.expand(count, -1) for row, count in zip(self.kind, self.kinds, strict=True)]
        )
        found = self.layers(
            inputs_embeds=content + kinds[:, None],
            multi_stage_positional_embeddings=places,
            pixel_embeddings=pixels.mask_features,
            encoder_hidden_states=maps,
            query_position_embeddings=position,
            feature_size_list=sizes,
            output_hidden_states=False,
            output_attentions=False,
            return_dict=True,
        )
        queries = [layer.transpose(0, 1) for layer in found.intermediate_hidden_states]
        return Prediction(
            tuple(found.masks_queries_logits),
            tuple(self.objectness(layer)[..., 0] for layer in queries),
            queries[-1],
        )


class LookAlike(nn.Module):
    """Mask2Former's mask predictor for anchored queries.

    To the product of a query's embedding and a pixel's it adds how much the pixel looks like the
    anchor: before anything is learned, a mask is what resembles its anchor.

    Args:
        predictor: Mask2Former's own.
        anchors: Along each side of the grid; other queries come behind those of the grid.
    """

    def __init__(self, predictor: Any, anchors: int) -> None:
        super().__init__()
        self.embed: Any = predictor.mask_embedder
        self.heads, self.anchors = int(predictor.num_heads), anchors
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.least = nn.Parameter(torch.tensor(0.5))  # cosine at which a pixel is as good as in

    def forward(
        self, queries: Tensor, pixels: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Mask logits, and where the next layer must not look.

        Args:
            queries: (queries, batch, hidden).
            pixels: (batch, hidden, height, width).
            size: Of the map that the next layer looks at.

        Returns:
            (batch, queries, height, width) and (batch * heads, queries, rows * columns) bool.
        """
        masks = torch.einsum("bqc,bchw->bqhw", self.embed(queries.transpose(0, 1)), pixels)
        looks = nn.functional.normalize(pixels, dim=1)
        alike = torch.einsum("qbc,bchw->bqhw", at_anchors(looks, self.anchors), looks)
        alike = self.sharpness * (alike - self.least)
        masks = masks + nn.functional.pad(alike, (0, 0, 0, 0, 0, len(queries) - self.anchors**2))
        with torch.no_grad():
            small = nn.functional.interpolate(masks, size, mode="bilinear", align_corners=False)
            outside = (small < 0).flatten(2).repeat_interleave(self.heads, 0)
        return masks, outside


def at_anchors(pixels: Tensor, anchors: int) -> Tensor:
    """(batch, channels, rows, columns) at a square grid of points: (points, batch, channels)."""
    at = (torch.arange(anchors, device=pixels.device) + 0.5) / anchors * 2 - 1
    points = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).to(pixels.dtype)
    points = points[None].expand(len(pixels), -1, -1, -1)
    found = nn.functional.grid_sample(pixels, points, align_corners=False)
    return found.flatten(2).permute(2, 0, 1)
