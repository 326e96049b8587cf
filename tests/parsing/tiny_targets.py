"""Tiny random checkpoints of four kinds of architecture, with one page each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from primum.parsing.surface import Surface

VOCABULARY, IMAGE, VIDEO, START, END_IMAGE = 400, 390, 391, 392, 393
Target = tuple[Any, dict[str, torch.Tensor]]

TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END_IMAGE,
    "tie_word_embeddings": False,
}
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}


def prompt(images: int) -> torch.Tensor:
    return torch.tensor([[5, 6, START, *[IMAGE] * images, END_IMAGE, 7, 8, 9]])


def one_axis() -> Target:
    """LightOnOCR: Pixtral and Qwen3, 1-D rotary positions."""
    config = transformers.LightOnOcrConfig(
        text_config=TEXT | {"model_type": "qwen3"},
        vision_config={
            "model_type": "pixtral", "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
        },
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )  # fmt: skip
    ids = prompt(6)
    page = {"pixel_values": torch.randn(1, 3, 32, 48), "image_sizes": torch.tensor([[32, 48]])}
    return transformers.LightOnOcrForConditionalGeneration(config), {"input_ids": ids, **page}


def three_axes() -> Target:
    """Qwen2.5-VL: three-axis rotary positions."""
    config = transformers.Qwen2_5_VLConfig(
        text_config={k: v for k, v in TEXT.items() if k != "head_dim"}
        | {"hidden_size": 64, "rope_parameters": SECTIONS},
        vision_config={
            "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
            "out_hidden_size": 64, "patch_size": 4, "window_size": 16,
            "fullatt_block_indexes": [0],
        },
        **TOKENS,
    )  # fmt: skip
    return transformers.Qwen2_5_VLForConditionalGeneration(config), _patches(3 * 2 * 4 * 4)


def three_axes_deepstack() -> Target:
    """Qwen3-VL: interleaved three-axis positions, image features in several layers."""
    config = transformers.Qwen3VLConfig(
        text_config=TEXT | {"rope_parameters": SECTIONS | {"mrope_interleaved": True}},
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2,
            "out_hidden_size": 48, "patch_size": 4, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **TOKENS,
    )  # fmt: skip
    return transformers.Qwen3VLForConditionalGeneration(config), _patches(3 * 2 * 4 * 4)


def region_native() -> Target:
    """PaddleOCR-VL: reads one region at a time."""
    config = transformers.PaddleOCRVLConfig(
        text_config=TEXT | {"rope_parameters": SECTIONS},
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "patch_size": 4, "image_size": 32,
        },
        **TOKENS,
    )  # fmt: skip
    page = _patches(3)
    page["pixel_values"] = torch.randn(48, 3, 4, 4)
    return transformers.PaddleOCRVLForConditionalGeneration(config), page


def encoder_decoder() -> Target:
    """Donut's kind: an image encoder and a text decoder with cross-attention."""
    encoder = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    decoder = transformers.MBartConfig(
        vocab_size=VOCABULARY, d_model=48, decoder_layers=2, decoder_attention_heads=4,
        decoder_ffn_dim=96, max_position_embeddings=2048, is_decoder=True, bos_token_id=1,
        is_encoder_decoder=False, add_cross_attention=True, scale_embedding=True,
        eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    model = transformers.VisionEncoderDecoderModel(config=config)
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=1, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    return model, {"pixel_values": torch.randn(1, 3, 32, 32)}


def _patches(size: int) -> dict[str, torch.Tensor]:
    ids = prompt(12)
    return {
        "input_ids": ids,
        "pixel_values": torch.randn(48, size),
        "image_grid_thw": torch.tensor([[1, 6, 8]]),
        "mm_token_type_ids": (ids == IMAGE).long(),
    }


KINDS: dict[str, Callable[[], Target]] = {
    "1-D": one_axis,
    "M-RoPE": three_axes,
    "M-RoPE interleaved": three_axes_deepstack,
    "region": region_native,
    "encoder-decoder": encoder_decoder,
}


def lively(kind: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Target:
    """A checkpoint that writes long and varied texts: weights far larger than any initialiser's."""
    torch.manual_seed(seed)
    model, page = KINDS[kind]()
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            scale = 1.0 if "embed" in name or "head" in name else 1.6 / weight.shape[-1] ** 0.5
            weight.data = scale * torch.randn(weight.shape, generator=generator)
    model = model.to(dtype).eval()
    page = {k: v.to(dtype) if v.is_floating_point() else v for k, v in page.items()}
    return model, page


class TinyTarget:
    """A random model behind the prompts of a target; its letters are the tokens' numbers."""

    unit = "page"

    def __init__(self, kind: str = "M-RoPE", unit: str = "page") -> None:
        self.model, self.inputs = lively(kind)
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        self.unit, self.surface = unit, Surface(between=" ", furniture=True)

    def page_inputs(self, image) -> dict[str, torch.Tensor]:
        seed = int(np.asarray(image, dtype=np.int64).sum())
        pixels = self.inputs["pixel_values"]
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
        return self.inputs | {"pixel_values": noise.to(pixels.dtype)}

    def region_inputs(self, image, kind) -> dict[str, torch.Tensor]:
        return self.page_inputs(image)

    def encode(self, text: str) -> list[int]:
        return [int(word) if word.isdigit() else 3 for word in text.split()]

    def decode(self, tokens) -> str:
        return " ".join(map(str, tokens))
