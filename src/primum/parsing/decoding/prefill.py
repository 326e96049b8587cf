"""A prompt read once: everything `generate` prepares, and the model's state behind the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList


@dataclass
class Prefilled:
    """One sequence, ready to decode.

    Args:
        input_ids: The prompt (1, length); an encoder-decoder's decoder prompt.
        logits: What the model says after the prompt (vocabulary,), in the model's dtype.
        processors: As `generate` prepared them.
        criteria: As `generate` prepared them.
        config: As `generate` prepared it.
        model_kwargs: What later forwards need, the cache included.
    """

    input_ids: Tensor
    logits: Tensor
    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    config: GenerationConfig
    model_kwargs: dict[str, Any]

    @property
    def cache(self) -> Any:
        """The model's keys and values of the prompt."""
        return self.model_kwargs.get("past_key_values")


def begin(
    model: Any,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> Prefilled:
    """Run the prompt; has the signature that `generate(custom_generate=...)` calls.

    A cache that forgets (a sliding window, a recurrent state) is told to remember, so that rejected
    tokens can be taken back.
    """
    cache = model_kwargs.get("past_key_values")
    if cache is not None:
        cache.activate_past_recording()
    outputs = model._prefill(input_ids, generation_config, model_kwargs, is_first_iteration=True)
    logits = outputs.logits[0, -1].clone()
    model_kwargs = model._update_model_kwargs_for_generation(
        outputs, model_kwargs, is_encoder_decoder=model.config.is_encoder_decoder
    )
    return Prefilled(
        input_ids, logits, logits_processor, stopping_criteria, generation_config, model_kwargs
    )


@torch.no_grad()
def prefill(model: Any, inputs: dict[str, Any], **options: Any) -> Prefilled:
    """Run a prompt with `generate`'s own preparation.

    Args:
        inputs: A processor's output for one page.
        options: Further arguments of `generate`.
    """
    return model.generate(**inputs, **options, custom_generate=begin, do_sample=False, num_beams=1)
