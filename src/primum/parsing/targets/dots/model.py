"""dots.ocr: its vision tower in front of a plain Qwen2 decoder with 1-D rotary positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM, Qwen2Model, Qwen2PreTrainedModel

from primum.parsing.targets.dots.configuration import DotsOCRConfig
from primum.parsing.targets.dots.vision import DotsVisionTower


class DotsOCRForCausalLM(Qwen2ForCausalLM):
    """Loads the released safetensors by their names; the class has the released name too.

    Args:
        config: A `DotsOCRConfig`.
    """

    config_class = DotsOCRConfig
    config: DotsOCRConfig
    input_modalities = ["image", "text"]  # noqa: RUF012 - declared so by transformers
    _no_split_modules = ["Qwen2DecoderLayer", "DotsVisionBlock"]  # noqa: RUF012
    supports_gradient_checkpointing = False  # of the tower; train with LoRA on the decoder

    def __init__(self, config: DotsOCRConfig) -> None:
        Qwen2PreTrainedModel.__init__(self, config)
        self.model = Qwen2Model(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.vision_tower = DotsVisionTower(config.vision_config)  # type: ignore[arg-type]
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """As Qwen2's, with pictures.

        Args:
            pixel_values: Flattened patches of all pictures (patches, 3 * 14 * 14).
            image_grid_thw: Time, rows and columns of patches of each picture (pictures, 3).

        Raises:
            ValueError: The prompt has another number of image tokens than the pictures give.
        """
        if pixel_values is not None and input_ids is not None:
            inputs_embeds = self._seen(input_ids, pixel_values, image_grid_thw)
            input_ids = None
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def _seen(self, ids: Tensor, pixels: Tensor, grid: Tensor | None) -> Tensor:
        if grid is None:
            raise ValueError("pixel_values need image_grid_thw")
        words = self.model.embed_tokens(ids)
        seen = self.vision_tower(pixels, grid).to(words.device, words.dtype)
        here = ids == self.config.image_token_id
        if int(here.sum()) != len(seen):
            raise ValueError(f"{int(here.sum())} image tokens, {len(seen)} image features")
        return words.masked_scatter(here[..., None], seen)

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        """Pictures are seen with the prompt and never again."""
        inputs = super().prepare_inputs_for_generation(*args, **kwargs)  # type: ignore[misc]
        if not kwargs.get("is_first_iteration") and kwargs.get("use_cache", True):
            inputs["pixel_values"] = inputs["image_grid_thw"] = None
        return inputs


def full_size(device: str = "meta", dtype: torch.dtype = torch.bfloat16) -> DotsOCRForCausalLM:
    """The released architecture with random weights: 3.04 billion of them; on `meta`, none."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return DotsOCRForCausalLM(DotsOCRConfig()).eval()
    finally:
        torch.set_default_dtype(before)
