"""The keys and shapes of released files, as their authors' code names them, with random values."""

from collections.abc import Iterable

import torch
from torch import Tensor

NORM = ("weight", "bias", "running_mean", "running_var")


def filled(shapes: Iterable[tuple[str, tuple[int, ...]]], device: str = "cpu") -> dict[str, Tensor]:
    torch.manual_seed(0)
    made = {}
    for key, shape in shapes:
        one = torch.empty(shape, device=device)
        if device != "meta":
            one.uniform_(0.5, 1.5) if key.endswith("running_var") else one.normal_(0, 0.05)
            if key.endswith("norm.weight"):
                one.add_(1)
        made[key] = one
    return made


def linear(key: str, given: int, made: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{key}.weight", (made, given)), (f"{key}.bias", (made,))]


def conv(key: str, given: int, made: int, size: int, bias: bool = True):  # type: ignore[no-untyped-def]
    return [(f"{key}.weight", (made, given, size, size))] + [(f"{key}.bias", (made,))] * bias


def norm(key: str, channels: int, parts=NORM):  # type: ignore[no-untyped-def]
    return [(f"{key}.{part}", (channels,)) for part in parts]


def resnet(prefix: str, depths=(3, 4, 6, 3)):  # type: ignore[no-untyped-def]
    """detectron2's ResNet: stem.conv1 and res2 to res5."""
    yield from conv(f"{prefix}stem.conv1", 3, 64, 7, False)
    yield from norm(f"{prefix}stem.conv1.norm", 64)
    given = 64
    for stage, depth in enumerate(depths, 2):
        narrow, wide = 64 << (stage - 2), 256 << (stage - 2)
        for block in range(depth):
            key = f"{prefix}res{stage}.{block}"
            if block == 0:
                yield from conv(f"{key}.shortcut", given, wide, 1, False)
                yield from norm(f"{key}.shortcut.norm", wide)
            for number, (one, other, size) in enumerate(
                [(given, narrow, 1), (narrow, narrow, 3), (narrow, wide, 1)], 1
            ):
                yield from conv(f"{key}.conv{number}", one, other, size, False)
                yield from norm(f"{key}.conv{number}.norm", other)
            given = wide


def unsam(  # type: ignore[no-untyped-def]
    queries=2000, hidden=256, feedforward=2048, encoder=6, decoder=9, depths=(3, 4, 6, 3),
    query_feat="query_feat", norms=True,
):  # fmt: skip
    """detectron2's Mask2Former with a ResNet-50 and one class."""
    affine = ("weight", "bias")
    for key, shape in resnet("backbone.", depths):
        if norms or ".norm." not in key or not key.endswith("num_batches_tracked"):
            yield key, shape
    pixel = "sem_seg_head.pixel_decoder."
    for number, width in enumerate((2048, 1024, 512)):
        yield from conv(f"{pixel}input_proj.{number}.0", width, hidden, 1)
        yield from norm(f"{pixel}input_proj.{number}.1", hidden, affine)
    yield f"{pixel}transformer.level_embed", (3, hidden)
    for number in range(encoder):
        key = f"{pixel}transformer.encoder.layers.{number}."
        yield from linear(f"{key}self_attn.sampling_offsets", hidden, 8 * 3 * 4 * 2)
        yield from linear(f"{key}self_attn.attention_weights", hidden, 8 * 3 * 4)
        yield from linear(f"{key}self_attn.value_proj", hidden, hidden)
        yield from linear(f"{key}self_attn.output_proj", hidden, hidden)
        yield from norm(f"{key}norm1", hidden, affine)
        yield from linear(f"{key}linear1", hidden, feedforward // 2)
        yield from linear(f"{key}linear2", feedforward // 2, hidden)
        yield from norm(f"{key}norm2", hidden, affine)
    yield from conv(f"{pixel}adapter_1", 256, hidden, 1, False)
    yield from norm(f"{pixel}adapter_1.norm", hidden, affine)
    yield from conv(f"{pixel}layer_1", hidden, hidden, 3, False)
    yield from norm(f"{pixel}layer_1.norm", hidden, affine)
    yield from conv(f"{pixel}mask_features", hidden, hidden, 1)
    head = "sem_seg_head.predictor."
    for number in range(decoder):
        for kind, attention in (("self", "self_attn"), ("cross", "multihead_attn")):
            key = f"{head}transformer_{kind}_attention_layers.{number}."
            yield f"{key}{attention}.in_proj_weight", (3 * hidden, hidden)
            yield f"{key}{attention}.in_proj_bias", (3 * hidden,)
            yield from linear(f"{key}{attention}.out_proj", hidden, hidden)
            yield from norm(f"{key}norm", hidden, affine)
        key = f"{head}transformer_ffn_layers.{number}."
        yield from linear(f"{key}linear1", hidden, feedforward)
        yield from linear(f"{key}linear2", feedforward, hidden)
        yield from norm(f"{key}norm", hidden, affine)
    yield from norm(f"{head}decoder_norm", hidden, affine)
    yield f"{head}{query_feat}.weight", (queries, hidden)
    yield f"{head}query_embed.weight", (queries, hidden)
    yield f"{head}level_embed.weight", (3, hidden)
    yield from linear(f"{head}class_embed", hidden, 2)
    for number in range(3):
        yield from linear(f"{head}mask_embed.layers.{number}", hidden, hidden)
    yield "criterion.empty_weight", (2,)


def cutler(channels=256, hidden=1024):  # type: ignore[no-untyped-def]
    """detectron2's Cascade Mask R-CNN with a ResNet-50-FPN, one class, class-agnostic boxes."""
    yield from resnet("backbone.bottom_up.")
    for level, width in ((2, 256), (3, 512), (4, 1024), (5, 2048)):
        for kind, given, size in (("lateral", width, 1), ("output", channels, 3)):
            yield from conv(f"backbone.fpn_{kind}{level}", given, channels, size, False)
            yield from norm(f"backbone.fpn_{kind}{level}.norm", channels)
    rpn = "proposal_generator.rpn_head."
    yield from conv(f"{rpn}conv", channels, channels, 3)
    yield from conv(f"{rpn}objectness_logits", channels, 3, 1)
    yield from conv(f"{rpn}anchor_deltas", channels, 12, 1)
    for stage in range(3):
        yield from linear(f"roi_heads.box_head.{stage}.fc1", channels * 49, hidden)
        yield from linear(f"roi_heads.box_head.{stage}.fc2", hidden, hidden)
        yield from linear(f"roi_heads.box_predictor.{stage}.cls_score", hidden, 2)
        yield from linear(f"roi_heads.box_predictor.{stage}.bbox_pred", hidden, 4)
    for number in range(1, 5):
        yield from conv(f"roi_heads.mask_head.mask_fcn{number}", channels, channels, 3)
    yield from conv("roi_heads.mask_head.deconv", channels, channels, 2)
    yield from conv("roi_heads.mask_head.predictor", channels, 1, 1)


def vit(width=384, depth=12, patch=16, tokens=197, mlp=4, scale=False):  # type: ignore[no-untyped-def]
    """DINO's and DINOv2's vision transformer without what differs between them."""
    yield "cls_token", (1, 1, width)
    yield "pos_embed", (1, tokens, width)
    yield from conv("patch_embed.proj", 3, width, patch)
    for number in range(depth):
        key = f"blocks.{number}."
        yield from norm(f"{key}norm1", width, ("weight", "bias"))
        yield from linear(f"{key}attn.qkv", width, 3 * width)
        yield from linear(f"{key}attn.proj", width, width)
        yield from norm(f"{key}norm2", width, ("weight", "bias"))
        yield from linear(f"{key}mlp.fc1", width, mlp * width)
        yield from linear(f"{key}mlp.fc2", mlp * width, width)
        if scale:
            yield f"{key}ls1.gamma", (width,)
            yield f"{key}ls2.gamma", (width,)
    yield from norm("norm", width, ("weight", "bias"))


def dinov2(registers=0, width=384, depth=12):  # type: ignore[no-untyped-def]
    """DINOv2 ViT-S/14 at 518 px: 37 x 37 tokens and the class token."""
    yield from vit(width, depth, 14, 37 * 37 + 1, scale=True)
    yield "mask_token", (1, width)
    if registers:
        yield "register_tokens", (1, registers, width)


def dinov3(width=384, depth=12):  # type: ignore[no-untyped-def]
    """DINOv3 ViT-S/16: rotary positions, storage tokens, a mask on the bias of the keys."""
    for key, shape in vit(width, depth, 16, 0, scale=True):
        if key != "pos_embed":
            yield key, shape
            if key.endswith("qkv.bias"):
                yield f"{key}_mask", shape
    yield "storage_tokens", (1, 4, width)
    yield "mask_token", (1, width)
    yield "rope_embed.periods", (16,)
