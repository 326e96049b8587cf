"""GOT-OCR2: its processor writes the prompt, a flag asks for formatted text."""

from __future__ import annotations

from typing import Any

from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import Adapter


class GotOcr2(Adapter):
    """GOT-OCR 2.0, 0.6 billion weights.

    Args:
        formatted: Whether LaTeX and tables are asked for, rather than plain text.
        prompt: Not used: the model knows no other words than its processor's.
    """

    name = "got_ocr2"
    hub = "stepfun-ai/GOT-OCR-2.0-hf"
    model_types = ("got_ocr2",)
    surface = Surface(heading="", formula=("\\[", "\\]"))
    ends = ("<|im_end|>",)

    def __init__(self, formatted: bool = True, prompt: str = "") -> None:
        super().__init__(prompt)
        self.formatted = formatted

    def inputs(self, processor: Any, image: Any, prompt: str) -> dict[str, Any]:
        """By the processor's own prompt."""
        return dict(processor(image.convert("RGB"), return_tensors="pt", format=self.formatted))
