"""dots.ocr made known to transformers' Auto classes."""

from __future__ import annotations


def register() -> None:
    """Let `AutoConfig`, `AutoProcessor` and the Auto models load dots.ocr; may be called again.

    A checkpoint that comes with Python code of its own is loaded by this port nevertheless:
    transformers prefers what is registered unless the user trusts remote code.
    """
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
    )

    from primum.parsing.targets.dots.configuration import DotsOCRConfig
    from primum.parsing.targets.dots.model import DotsOCRForCausalLM
    from primum.parsing.targets.dots.processor import DotsVLProcessor

    AutoConfig.register(DotsOCRConfig.model_type, DotsOCRConfig, exist_ok=True)
    AutoProcessor.register(DotsOCRConfig, DotsVLProcessor, exist_ok=True)
    for auto in (AutoModelForCausalLM, AutoModelForImageTextToText):
        auto.register(DotsOCRConfig, DotsOCRForCausalLM, exist_ok=True)
