"""The adapters there are, and which one a model needs."""

from __future__ import annotations

import json
from pathlib import Path
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


def named(name: str) -> str:
    """The hub id of an entry of `checkpoints/parsing`; any other name as it is."""
    found = {f"{prefix}{one.name}": one.hub for one in ADAPTERS for prefix in ("", "parsing/")}
    return name if Path(name).exists() else found.get(name, name)


def adapter_named(name: str) -> type[Adapter] | None:
    """The adapter of a hub id or directory, before anything is loaded; None where it is not known.

    Args:
        name: As `named` gives it.
    """
    for adapter in ADAPTERS:
        if name == adapter.hub:
            return adapter
    file = Path(name) / "config.json"
    if not file.is_file():
        return None
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        return None  # whoever loads it says what is wrong
    return next((one for one in ADAPTERS if kind in one.model_types), None)


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
