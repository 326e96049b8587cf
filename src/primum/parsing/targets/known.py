"""The adapters there are, and which one a model needs."""

from __future__ import annotations

from typing import Any

from primum.parsing.targets.adapter import Adapter
from primum.parsing.targets.deepseek_ocr2 import DeepSeekOcr2
from primum.parsing.targets.dots_ocr import DotsOcr
from primum.parsing.targets.glm_ocr import GlmOcr
from primum.parsing.targets.got_ocr2 import GotOcr2
from primum.parsing.targets.granite_docling import GraniteDocling
from primum.parsing.targets.hunyuan_ocr import HunyuanOcr
from primum.parsing.targets.lighton_ocr import LightOnOcr
from primum.parsing.targets.paddleocr_vl import PaddleOcrVl
from primum.parsing.targets.qwen_vl import Qwen3Vl, Qwen25Vl
from primum.parsing.targets.smoldocling import SmolDocling

ADAPTERS: tuple[type[Adapter], ...] = (
    DotsOcr,
    PaddleOcrVl,
    GlmOcr,
    GraniteDocling,
    Qwen25Vl,
    Qwen3Vl,
    LightOnOcr,
    HunyuanOcr,
    GotOcr2,
    DeepSeekOcr2,
    SmolDocling,
)


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
