"""Transformers' own greedy `generate`, with its prompt and its decoding timed apart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from transformers import LogitsProcessor


class Generated(NamedTuple):
    """What `generate` wrote, and how long it took.

    Args:
        tokens: The output, without the prompt.
        prefill: Seconds of the prompt.
        decode: Seconds of all tokens behind the first.
    """

    tokens: list[int]
    prefill: float
    decode: float


class FirstToken(LogitsProcessor):
    """Notes when `generate` has read the prompt."""

    at: float | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Leave the scores alone."""
        if self.at is None:
            if scores.is_cuda:
                torch.cuda.synchronize()
            self.at = time.perf_counter()
        return scores


@torch.inference_mode()
def generated(
    model: Any, inputs: Mapping[str, Any], most: int, processors: tuple[Any, ...] = (), **more: Any
) -> Generated:
    """Run `generate` once.

    Args:
        most: Tokens at most.
        processors: Of its logits.
        more: Further options, for instance `prompt_lookup_num_tokens`.
    """
    began, first = time.perf_counter(), FirstToken()
    out = model.generate(
        **inputs,
        max_new_tokens=most,
        do_sample=False,
        logits_processor=[first, *processors],
        **more,
    )[0]
    start = 0 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    tokens = out[start:].tolist()  # waits for the device
    ended = time.perf_counter()
    ready = first.at or ended
    return Generated(tokens, ready - began, ended - ready)
