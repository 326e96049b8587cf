"""What tiny checkpoints are made of: each release's configuration in small, and its tokens.

Shapes are small; names of fields, special tokens, pictures' patches and prompts are the release's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from primum.parsing.targets.dots.processor import SPECIAL as DOTS
from primum.parsing.targets.otsl import CELLS

PAD, BEGIN, END = "<pad>", "<begin>", "<end>"
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
SECTIONS = ROPE | {"mrope_section": [2, 3, 3]}
TEMPLATE = (
    "{{{{ '{before}' }}}}{{% for part in messages[0]['content'] %}}{{{{ "
    "'{image}' if part['type'] == 'image' else part['text'] }}}}{{% endfor %}}{{{{ '{after}' }}}}"
)
Made = tuple[Any, Any]  # a config and a processor


def tokenizer(special: Sequence[str], **named: str) -> Any:
    """A token a byte, and the special ones, first of all pad, begin and end.

    Args:
        special: The release's own.
        named: Attributes that its processor asks for, such as `image_token`.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = list(dict.fromkeys([PAD, BEGIN, END, *special]))
    vocabulary = {token: number for number, token in enumerate([*marks, *letters])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        extra_special_tokens=named,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def text(tokens: Any, **more: Any) -> dict[str, Any]:
    """A decoder of two layers."""
    return {
        "vocab_size": len(tokens), "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 8192, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    } | more  # fmt: skip


def template(image: str, before: str = BEGIN, after: str = "") -> str:
    """A chat template for one picture and one prompt."""
    return TEMPLATE.format(before=before, image=image, after=after)


def _dots_ocr() -> Made:
    from transformers import Qwen2VLImageProcessor

    from primum.parsing.targets.dots.configuration import DotsOCRConfig
    from primum.parsing.targets.dots.processor import DotsVLProcessor, framed
    from primum.parsing.targets.dots_ocr import LARGEST, SMALLEST

    tokens = tokenizer(DOTS)
    config = DotsOCRConfig(
        **text(tokens, image_token_id=tokens.convert_tokens_to_ids(DOTS[0])),
        video_token_id=0,
        vision_config={
            "embed_dim": 32, "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
    )  # fmt: skip
    images = Qwen2VLImageProcessor(
        temporal_patch_size=1, size={"shortest_edge": SMALLEST, "longest_edge": LARGEST}
    )
    before, after = framed("\n").split("\n")
    _, _, behind = before.partition("<|user|>")
    chat = template(behind, "<|user|>", after)
    return config, DotsVLProcessor(images, tokens, chat_template=chat)


def _paddleocr_vl() -> Made:
    from transformers import PaddleOCRVLConfig, PaddleOCRVLImageProcessor, PaddleOCRVLProcessor

    image, start, end = "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_START|>", "<|IMAGE_END|>"
    tags = [f"<{cell}>" for cell in (*CELLS, "nl")]
    tokens = tokenizer([image, start, end, *tags], image_token=image)
    config = PaddleOCRVLConfig(
        text_config=text(tokens, head_dim=16, rope_parameters=SECTIONS),
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 56, "patch_size": 14,
        },
        image_token_id=tokens.convert_tokens_to_ids(image),
        vision_start_token_id=tokens.convert_tokens_to_ids(start),
        vision_end_token_id=tokens.convert_tokens_to_ids(end),
    )  # fmt: skip
    images = PaddleOCRVLImageProcessor(size={"shortest_edge": 784, "longest_edge": 28 * 28 * 64})
    chat = template(start + image + end, f"{BEGIN}User: ", "\\nAssistant:\\n")
    return config, PaddleOCRVLProcessor(images, tokens, chat_template=chat)


def _glm_ocr() -> Made:
    from transformers import (
        Glm46VImageProcessor,
        Glm46VProcessor,
        Glm46VVideoProcessor,
        GlmOcrConfig,
    )

    image, start, end = "<|image|>", "<|begin_of_image|>", "<|end_of_image|>"
    film = ("<|video|>", "<|begin_of_video|>", "<|end_of_video|>")
    tokens = tokenizer([image, start, end, *film, "<|user|>", "<|assistant|>"])
    ids = tokens.convert_tokens_to_ids
    config = GlmOcrConfig(
        text_config=text(tokens, head_dim=16, rope_parameters=SECTIONS),
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
            "out_hidden_size": 64, "image_size": 56,
        },
        image_token_id=ids(image), image_start_token_id=ids(start), image_end_token_id=ids(end),
        video_token_id=ids(film[0]), video_start_token_id=ids(film[1]),
        video_end_token_id=ids(film[2]),
    )  # fmt: skip
    images = Glm46VImageProcessor(size={"shortest_edge": 784, "longest_edge": 28 * 28 * 128})
    chat = template(start + image + end, "<|user|>\\n", "<|assistant|>\\n")
    return config, Glm46VProcessor(images, tokens, Glm46VVideoProcessor(), chat_template=chat)


def _granite_docling() -> Made:
    from transformers import (
        GraniteDoclingConfig,
        GraniteDoclingImageProcessor,
        GraniteDoclingProcessor,
    )

    tokens = tokenizer(_doctags(), image_token="<image>")
    config = GraniteDoclingConfig(
        text_config=text(
            tokens, attention_multiplier=0.25, embedding_multiplier=1.0, residual_multiplier=1.0
        ),
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
            "num_attention_heads": 2, "image_size": 64, "patch_size": 8, "out_hidden_size": 64,
            "deepstack_visual_indexes": [0, 1, 2],
        },
        image_token_id=tokens.convert_tokens_to_ids("<image>"), pad_token_id=0,
    )  # fmt: skip
    images = GraniteDoclingImageProcessor(size={"height": 64, "width": 64})
    chat = template("<image>", BEGIN, "\\n")
    return config, GraniteDoclingProcessor(images, tokens, image_seq_len=4, chat_template=chat)


def _smoldocling() -> Made:
    from transformers import Idefics3Config, Idefics3ImageProcessor, Idefics3Processor

    tokens = tokenizer([*_doctags(), "<end_of_utterance>"])
    shape: dict[str, Any] = {
        "text_config": text(tokens, model_type="llama"),
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
        },
        "image_token_id": tokens.convert_tokens_to_ids("<image>"), "scale_factor": 4,
        "pad_token_id": 0,
    }  # fmt: skip
    config = Idefics3Config(**shape)
    images = Idefics3ImageProcessor(size={"longest_edge": 128}, max_image_size={"longest_edge": 64})
    chat = template("<image>", f"{BEGIN}User:", "<end_of_utterance>\\nAssistant:")
    return config, Idefics3Processor(images, tokens, image_seq_len=4, chat_template=chat)


def _doctags() -> list[str]:
    from primum.parsing.targets.doctags import GRID, TAGS

    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    places = [f"<loc_{place}>" for place in range(GRID + 1)]
    tags = [f"<{end}{tag}>" for tag in ("doctag", *TAGS) for end in ("", "/")]
    cells = [f"<{cell}>" for cell in (*CELLS, "nl")]
    return ["<image>", "<fake_token_around_image>", "<global-img>", *tiles, *tags, *cells, *places]


def _qwen(architecture: str) -> Made:
    import transformers
    from transformers import Qwen2VLImageProcessor

    image, start, end = "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"
    tokens = tokenizer([image, "<|video_pad|>", start, end, "<|im_start|>", "<|im_end|>"])
    ids = tokens.convert_tokens_to_ids
    marked = {
        "image_token_id": ids(image), "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids(start), "vision_end_token_id": ids(end),
    }  # fmt: skip
    seeing: dict[str, Any] = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
        "out_hidden_size": 64,
    }  # fmt: skip
    chat = template(
        start + image + end, "<|im_start|>user\\n", "<|im_end|>\\n<|im_start|>assistant\\n"
    )
    if architecture == "Qwen2_5_VL":
        seeing |= {"window_size": 56, "fullatt_block_indexes": [1]}
        written = text(tokens, rope_parameters=SECTIONS)
        side, film = 14, "Qwen2VLVideoProcessor"
    else:
        seeing |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        rope = SECTIONS | {"mrope_interleaved": True}
        written = text(tokens, head_dim=16, rope_parameters=rope)
        side, film = 16, "Qwen3VLVideoProcessor"
    config = getattr(transformers, f"{architecture}Config")(
        text_config=written, vision_config=seeing, **marked
    )
    images = Qwen2VLImageProcessor(
        patch_size=side, size={"shortest_edge": 784, "longest_edge": 28 * 28 * 128}
    )
    processor = getattr(transformers, f"{architecture}Processor")
    films = getattr(transformers, film)()
    return config, processor(images, tokens, films, chat_template=chat)


def _lighton_ocr() -> Made:
    from transformers import LightOnOcrConfig, LightOnOcrProcessor, PixtralImageProcessor

    image, broken, end = "<|image_pad|>", "<|vision_pad|>", "<|vision_end|>"
    tokens = tokenizer(
        [image, broken, end], image_token=image, image_break_token=broken, image_end_token=end
    )
    config = LightOnOcrConfig(
        text_config=text(tokens, model_type="qwen3", head_dim=16, rope_parameters=ROPE),
        vision_config={
            "model_type": "pixtral", "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16, "image_size": 280,
            "patch_size": 14,
        },
        image_token_id=tokens.convert_tokens_to_ids(image),
    )  # fmt: skip
    images = PixtralImageProcessor(
        size={"longest_edge": 280}, patch_size={"height": 28, "width": 28}
    )
    chat = template(image, BEGIN, "\\n")
    return config, LightOnOcrProcessor(images, tokens, patch_size=14, chat_template=chat)


def _hunyuan_ocr() -> Made:
    from transformers import HunYuanVLConfig, HunYuanVLImageProcessor, HunYuanVLProcessor

    image, start, end = "<image>", "<image_start>", "<image_end>"
    tokens = tokenizer(
        [image, start, end], image_token=image, image_start_token=start, image_end_token=end
    )
    ids = tokens.convert_tokens_to_ids
    rope = ROPE | {"mrope_section": [2, 2, 2, 2]}
    config = HunYuanVLConfig(
        text_config=text(tokens, head_dim=16, rope_parameters=rope),
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "out_hidden_size": 64, "max_image_size": 256,
        },
        image_token_id=ids(image), im_start_id=ids(start), im_end_id=ids(end),
    )  # fmt: skip
    images = HunYuanVLImageProcessor(size={"shortest_edge": 1024, "longest_edge": 32 * 32 * 128})
    chat = template(start + image + end)
    return config, HunYuanVLProcessor(images, tokens, chat_template=chat)


def _got_ocr2() -> Made:
    from transformers import GotOcr2Config, GotOcr2ImageProcessor, GotOcr2Processor

    tokens = tokenizer(["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<imgpad>"])
    config = GotOcr2Config(
        text_config=text(tokens, model_type="qwen2", rope_parameters=ROPE),
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 48,
            "image_size": 1024, "output_channels": 16, "window_size": 7,
            "global_attn_indexes": [],
        },
        image_token_index=tokens.convert_tokens_to_ids("<imgpad>"),
    )  # fmt: skip
    images = GotOcr2ImageProcessor(size={"height": 1024, "width": 1024})
    return config, GotOcr2Processor(images, tokens)


def _deepseek_ocr2() -> Made:
    from transformers import (
        DeepseekOcr2Config,
        DeepseekOcr2ImageProcessor,
        DeepseekOcr2Processor,
    )

    grounds = [f"<|{end}{name}|>" for name in ("ref", "det") for end in ("", "/")]
    tokens = tokenizer(["<image>", "<|grounding|>", *grounds], image_token="<image>")
    config = DeepseekOcr2Config(
        text_config=text(
            tokens, num_key_value_heads=4, rope_parameters=ROPE, n_routed_experts=4,
            n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=32,
            mlp_layer_types=["dense", "sparse"],
        ),
        vision_config={
            "sam_config": {
                "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "output_channels": 16, "window_size": 7, "global_attn_indexes": [],
                "downsample_channels": [24, 32], "image_size": 1024,
            },
            "encoder_config": {
                "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": ROPE,
            },
        },
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return config, DeepseekOcr2Processor(DeepseekOcr2ImageProcessor(), tokens)


RECIPES: dict[str, Callable[[], Made]] = {
    "dots_ocr": _dots_ocr,
    "paddleocr_vl": _paddleocr_vl,
    "glm_ocr": _glm_ocr,
    "granite_docling": _granite_docling,
    "qwen2_5_vl": lambda: _qwen("Qwen2_5_VL"),
    "qwen3_vl": lambda: _qwen("Qwen3VL"),
    "lighton_ocr": _lighton_ocr,
    "hunyuan_ocr": _hunyuan_ocr,
    "got_ocr2": _got_ocr2,
    "deepseek_ocr2": _deepseek_ocr2,
    "smoldocling": _smoldocling,
}
