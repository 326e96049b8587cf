"""The adapters there are, and which one a model needs."""

from __future__ import annotations

from typing import Any

from primum.parsing.targets.adapter import Adapter
from primum.parsing.targets.dots_ocr import DotsOcr

ADAPTERS: tuple[type[Adapter], ...] = (DotsOcr,)


def adapter_of(model: Any, prompt: str = "") -> Adapter:
    """The adapter of a model's architecture; of an unknown one, its chat template and the prompt.

    Args:
        model: A loaded model.
        prompt: Asked of pages instead of the model's own prompt.
    """
    for adapter in ADAPTERS:
        if model.config.model_type in adapter.model_types:
            return adapter(prompt=prompt)
    return Adapter(prompt)
