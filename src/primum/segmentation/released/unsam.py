"""UnSAM's whole-image model (Wang et al., 2024): a Mask2Former with a ResNet-50, by its key map."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from primum.segmentation.pictures import read_picture
from primum.segmentation.released.coverage import Coverage, coverage, require_whole
from primum.segmentation.released.resnet import HF_RESNET

PIXELS = "model.pixel_level_module."
QUERIES = "model.transformer_module."
LAYERS = QUERIES + "decoder.layers."
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

#: detectron2's key (a pattern) -> transformers' key; the first that matches holds
RULES: Sequence[tuple[str, str]] = (
    *((rf"backbone\.{old}", PIXELS + "encoder." + new) for old, new in HF_RESNET),
    (r"sem_seg_head\.pixel_decoder\.input_proj\.", PIXELS + "decoder.input_projections."),
    (r"sem_seg_head\.pixel_decoder\.transformer\.level_embed", PIXELS + "decoder.level_embed"),
    (r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.norm1\.",
     PIXELS + r"decoder.encoder.layers.\1.self_attn_layer_norm."),
    (r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.norm2\.",
     PIXELS + r"decoder.encoder.layers.\1.final_layer_norm."),
    (r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.linear([12])\.",
     PIXELS + r"decoder.encoder.layers.\1.fc\2."),
    (r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.", PIXELS + "decoder.encoder."),
    (r"sem_seg_head\.pixel_decoder\.(adapter|layer)_(\d)\.norm\.", PIXELS + r"decoder.\1_\2.1."),
    (r"sem_seg_head\.pixel_decoder\.(adapter|layer)_(\d)\.", PIXELS + r"decoder.\1_\2.0."),
    (r"sem_seg_head\.pixel_decoder\.mask_features\.", PIXELS + "decoder.mask_projection."),
    (r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.norm\.",
     LAYERS + r"\1.self_attn_layer_norm."),
    (r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.self_attn\.",
     LAYERS + r"\1.self_attn."),
    (r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.norm\.",
     LAYERS + r"\1.cross_attn_layer_norm."),
    (r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.multihead_attn\.",
     LAYERS + r"\1.cross_attn."),
    (r"sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.norm\.",
     LAYERS + r"\1.final_layer_norm."),
    (r"sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.linear([12])\.",
     LAYERS + r"\1.fc\2."),
    (r"sem_seg_head\.predictor\.decoder_norm\.", QUERIES + "decoder.layernorm."),
    (r"sem_seg_head\.predictor\.(?:query_feat|static_query)\.", QUERIES + "queries_features."),
    (r"sem_seg_head\.predictor\.query_embed\.", QUERIES + "queries_embedder."),
    (r"sem_seg_head\.predictor\.level_embed\.", QUERIES + "level_embed."),
    (r"sem_seg_head\.predictor\.class_embed\.", "class_predictor."),
    (r"sem_seg_head\.predictor\.mask_embed\.layers\.(\d)\.",
     QUERIES + r"decoder.mask_predictor.mask_embedder.\1.0."),
)  # fmt: skip
# what the loss needed, and buffers that older files carry
TRAINING = re.compile(r"^(?:criterion\.|pixel_mean$|pixel_std$)")


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A detectron2 Mask2Former state under transformers' keys, and the keys left out.

    Self-attention's joint projection is split into query, key and value, as transformers keeps it;
    cross-attention stays joint.
    """
    made: dict[str, Tensor] = {}
    dropped: list[str] = []
    for given, tensor in state.items():
        if TRAINING.search(given):
            dropped.append(given)
            continue
        key = given
        for old, new in RULES:
            if re.match(old, given):
                key = re.sub("^" + old, new, given)
                break
        joint = re.fullmatch(r"(.*\.self_attn\.)in_proj_(weight|bias)", key)
        if joint:
            for name, part in zip("qkv", tensor.chunk(3), strict=True):
                made[f"{joint[1]}{name}_proj.{joint[2]}"] = part
        else:
            made[key] = tensor
    return made, dropped


class UnSam(nn.Module):
    """UnSAM's whole-image segmentation, of transformers' parts.

    Args:
        num_queries: 2000 in the released model.
        short_side: Pixels of the shorter side when shown to the network.
        most: Masks an image.
        hidden, feedforward, encoder_layers, decoder_layers: Sizes, changed in tests alone.
        depths, widths: Of the ResNet, likewise.
    """

    layout = "UnSAM (Mask2Former, ResNet-50)"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_queries: int = 2000,
        short_side: int = 1024,
        most: int = 1000,
        hidden: int = 256,
        feedforward: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (256, 512, 1024, 2048),
    ) -> None:
        super().__init__()
        from transformers import (
            Mask2FormerConfig,
            Mask2FormerForUniversalSegmentation,
            ResNetConfig,
        )

        self.short_side, self.most = short_side, most
        backbone = ResNetConfig(  # type: ignore[call-arg]
            embedding_size=64,
            hidden_sizes=list(widths),
            depths=list(depths),
            layer_type="bottleneck",
            downsample_in_bottleneck=False,  # the stride sits in the 3x3, as in torchvision
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        config = Mask2FormerConfig(  # type: ignore[call-arg]
            backbone_config=backbone,
            num_queries=num_queries,
            num_labels=1,
            feature_size=hidden,
            mask_feature_size=hidden,
            hidden_dim=hidden,
            encoder_feedforward_dim=feedforward // 2,
            dim_feedforward=feedforward,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers
            + 1,  # transformers counts the prediction before the first
        )
        self.network = Mask2FormerForUniversalSegmentation(config).eval()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), False)

    def load_released(self, state: Mapping[str, Tensor], file: Any = None) -> Coverage:
        """Take the weights of a released detectron2 state.

        Raises:
            UserError: Keys are left over or missing; it lists them.
        """
        made, dropped = rename(state)
        wanted = {
            key: tensor
            for key, tensor in self.network.state_dict().items()
            if not key.startswith("criterion.")
        }
        found = coverage(made, wanted, dropped)
        require_whole(found, self.layout, file)
        self.network.load_state_dict(made, strict=False)
        return found

    @torch.inference_mode()
    def segment(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Masks of a (height, width, 3) uint8 picture, best first, as SAM's generator gives them.

        A mask's score is its class probability times the mean probability of its pixels.
        """
        height, width = image.shape[:2]
        shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self.mean).float()
        scale = self.short_side / min(height, width)
        size = (round(height * scale), round(width * scale))
        shown = interpolate(shown, size, mode="bilinear", antialias=True, align_corners=False)
        shown = (shown - self.mean) / self.std
        beyond = [-side % 32 for side in size]
        padded = pad(shown, (0, beyond[1], 0, beyond[0]))
        made = self.network(pixel_values=padded)
        score = made.class_queries_logits[0].softmax(-1)[:, 0]
        best = score.topk(min(self.most, len(score)))
        found = []
        for place, chance in zip(best.indices.split(50), best.values.split(50), strict=True):
            small = made.masks_queries_logits[:, place]
            logits = interpolate(small, padded.shape[2:], mode="bilinear", align_corners=False)
            logits = logits[..., : size[0], : size[1]]
            logits = interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0]
            masks = logits > 0
            area = masks.flatten(1).sum(1)
            sure = (logits.sigmoid() * masks).flatten(1).sum(1) / area.clamp(min=1)
            for mask, one, pixels in zip(
                masks, (chance * sure).tolist(), area.tolist(), strict=True
            ):
                if pixels:
                    found.append({"segmentation": mask.cpu().numpy(), "area": pixels, "score": one})
        return sorted(found, key=lambda one: -one["score"])

    def answer(self, cases: Sequence[Any], settings: object) -> list[list[dict[str, Any]]]:
        """Sit a benchmark of pictures."""
        return [self.segment(read_picture(case.files["image"])) for case in cases]
