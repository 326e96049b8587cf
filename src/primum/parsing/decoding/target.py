"""What decoding asks of a target: prompts for a page and for a region, and its tokenizer."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from primum.parsing.regions import Kind
from primum.parsing.surface import Surface

Unit = Literal["page", "region", "both"]


class Target(Protocol):
    """A document model with its prompts.

    Attributes:
        model: Anything `generate` works on.
        unit: What the model was made to read at once. Strict output is that of the model's own
            pipeline: one page prompt, or its crops and region prompts.
        surface: How it writes what drafters find.
    """

    model: Any
    unit: Unit
    surface: Surface

    def page_inputs(self, image: Any) -> dict[str, Any]:
        """The model's inputs for a whole page (PIL, RGB)."""

    def region_inputs(self, image: Any, kind: Kind) -> dict[str, Any]:
        """The model's inputs for a crop."""

    def encode(self, text: str) -> Sequence[int]:
        """Text to tokens, no special ones."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special ones left out."""
