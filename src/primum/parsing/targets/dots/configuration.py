"""dots.ocr's config.json: Qwen2's fields at the top level, the vision tower's nested."""

from __future__ import annotations

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig, Qwen2Config
from transformers.configuration_utils import SubConfigSpec


@strict
class DotsVisionConfig(PreTrainedConfig):
    """The vision tower; the defaults are the released ones."""

    model_type = "dots_vit"
    base_config_key = "vision_config"

    embed_dim: int = 1536
    hidden_size: int = 1536  # behind the merger: the decoder's width
    intermediate_size: int = 4224
    num_hidden_layers: int = 42
    num_attention_heads: int = 12
    num_channels: int = 3
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 1
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    use_bias: bool = False
    post_norm: bool = True
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("attn_implementation", None)  # the release asks for flash-attn here
        super().__post_init__(**kwargs)


@strict
class DotsOCRConfig(Qwen2Config):
    """The whole model; the defaults are those of dots.ocr, dots.ocr.base and dots.mocr."""

    model_type = "dots_ocr"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "vision_config": SubConfigSpec(config_class=DotsVisionConfig)
    }

    hidden_size: int = 1536
    intermediate_size: int = 8960
    num_hidden_layers: int = 28
    num_attention_heads: int = 12
    num_key_value_heads: int | None = 2
    max_position_embeddings: int = 131072
    default_theta = 1_000_000.0
    image_token_id: int = 151665
    video_token_id: int = 151656
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
