"""Speculation through `generate`: its preparation, processors, criteria and streamers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from primum.parsing.decoding.loop import Row, decode, row
from primum.parsing.decoding.prefill import begin
from primum.parsing.decoding.rules import sequence_ids
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.speculator import Speculator


class Speculative:
    """What `model.generate(custom_generate=...)` takes: the same tokens, in fewer forwards.

    What speculation cannot keep exact (sampling, beams, several prompts, scores) goes to plain
    `generate`, with one notice.

    Args:
        speculator: Where trees come from.
        drafts: This page's drafts.
        streamer: Gets every token. `generate` does not hand its own to a custom loop, so name it
            here as well.
        tolerance: 1 is strict; below, lossy (see `Rules`).

    >>> # ids = model.generate(**inputs, custom_generate=Speculative(speculator, drafts))
    """

    def __init__(
        self,
        speculator: Speculator | None,
        drafts: Sequence[Draft] = (),
        streamer: Any = None,
        tolerance: float = 1.0,
    ) -> None:
        self.speculator, self.drafts = speculator, drafts
        self.streamer, self.tolerance = streamer, tolerance
        self.row: Row | None = None  # of the last call: its trace and its rules

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> Any:
        """Decode one prompt."""
        reason = self._why_not(model, input_ids, generation_config, model_kwargs)
        if reason is not None:
            warnings.warn(f"Drafts are not used: {reason}", stacklevel=3)
            return self._plainly(
                model, input_ids, logits_processor, stopping_criteria, generation_config,
                model_kwargs,
            )  # fmt: skip
        if self.speculator is not None:
            self.speculator.start(self.drafts)
        sequence = begin(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
        )
        self.row = row(sequence, self.speculator, self.tolerance)
        if self.streamer is not None:
            self.row.seen = self._stream
        steps = decode(model, [sequence], [self.row])
        if self.streamer is not None:
            self.streamer.end()
        ids = sequence_ids(self.row.rules, input_ids)
        if not generation_config.return_dict_in_generate:
            return ids
        return _as_dict(model, ids, steps, sequence.model_kwargs)

    def _stream(self, tokens: list[int]) -> None:
        for token in tokens:
            self.streamer.put(torch.tensor([token]))

    def _why_not(self, model: Any, ids: Tensor, config: Any, kwargs: dict[str, Any]) -> str | None:
        """What keeps speculation from being exact here."""
        if config.do_sample:
            return "sampling draws a random number a token"
        if config.num_beams > 1 or config.num_return_sequences > 1:
            return "several beams or sequences were asked for"
        if getattr(config, "constraints", None) or getattr(config, "force_words_ids", None):
            return "constraints were asked for"
        if ids.shape[0] > 1:
            return "there is more than one prompt; decode them with `primum.parsing.decoding.loop`"
        if any((config.output_scores, config.output_logits,
                config.output_attentions, config.output_hidden_states)):  # fmt: skip
            return "scores, logits, attentions or hidden states of every step were asked for"
        cache = kwargs.get("past_key_values")
        if not config.use_cache or cache is None:
            return "the cache is off"
        if getattr(cache, "is_compileable", False):
            return f"a {type(cache).__name__} cannot take rejected tokens back"
        cache.activate_past_recording()
        if not cache.is_croppable:
            return "the cache cannot take rejected tokens back"
        return None

    def _plainly(
        self, model: Any, ids: Tensor, processors: Any, criteria: Any, config: Any,
        kwargs: dict[str, Any],
    ) -> Any:  # fmt: skip
        from transformers.generation.utils import GENERATION_MODES_MAPPING

        name = GENERATION_MODES_MAPPING[config.get_generation_mode(None)]
        if self.streamer is not None:
            kwargs = kwargs | {"streamer": self.streamer}
        return getattr(type(model), name)(
            model,
            ids,
            logits_processor=processors,
            stopping_criteria=criteria,
            generation_config=config,
            **kwargs,
        )


def _as_dict(model: Any, ids: Any, steps: Any, kwargs: dict[str, Any]) -> Any:
    from transformers.generation.utils import (
        GenerateDecoderOnlyOutput,
        GenerateEncoderDecoderOutput,
    )

    cache = steps.cache.plain() if steps.trees else kwargs.get("past_key_values")
    if model.config.is_encoder_decoder:
        return GenerateEncoderDecoderOutput(sequences=ids, past_key_values=cache)
    return GenerateDecoderOnlyOutput(sequences=ids, past_key_values=cache)
