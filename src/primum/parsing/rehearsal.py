"""A full-size model with random weights whose choices follow a given text.

It takes the time that a real target would take on a page before its weights are at hand. Its text
is given, so nothing can be learned from it about quality, and its figures are no measurements of a
model: keep them in a table of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.decoding.rules import Rules
from primum.parsing.speculation.scripted import ScriptedTarget
from primum.parsing.speculation.tree import Tree
from primum.parsing.speculation.walk import Walk
from primum.parsing.targets.dots.model import full_size
from primum.parsing.targets.dots_ocr import LARGEST, SMALLEST, input_size

# Language models by name; `dots` is dots.ocr's, and comes with its vision tower.
SIZES: dict[str, dict[str, Any]] = {
    "10M": {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 8192,
    },
    "100M": {
        "hidden_size": 640, "intermediate_size": 2560, "num_hidden_layers": 12,
        "num_attention_heads": 10, "num_key_value_heads": 2, "vocab_size": 32768,
    },
    "dots": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
    },
}  # fmt: skip


def rehearsal_model(size: str, dtype: torch.dtype, device: str = "cpu") -> Any:
    """A random Qwen2 of a size in `SIZES`; for `dots`, the whole of dots.ocr."""
    import transformers

    if size == "dots":
        whole = full_size(device, dtype)
        whole.generation_config.pad_token_id = 0
        return whole

    config = transformers.Qwen2Config(
        **SIZES[size], max_position_embeddings=131072, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = transformers.Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval()


def dots_page(model: Any, image: Any, prompt: int = 320) -> dict[str, Tensor]:
    """What dots.ocr gets of a page, with any words as its prompt: prefilling takes its real time.

    Args:
        model: A `DotsOCRForCausalLM`.
        image: PIL.
        prompt: Tokens of the prompt; the release's own for layout has about so many.
    """
    from transformers import Qwen2VLImageProcessor

    picture = image.convert("RGB").resize(input_size(*image.size))
    limits = {"shortest_edge": SMALLEST, "longest_edge": LARGEST}
    seen = Qwen2VLImageProcessor(temporal_patch_size=1, size=limits)(picture, return_tensors="pt")
    tokens = int(seen["image_grid_thw"].prod()) // 4
    ids = torch.full((1, tokens + prompt), model.config.image_token_id)
    ids[0, tokens:] = torch.arange(prompt) % (model.config.image_token_id - 1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **seen}
    return {name: value.to(model.device) for name, value in inputs.items()}


class RehearsedRules(Rules):
    """Takes the argmax of the logits, as a real run does, then says what the script says.

    Args:
        sequence: A prefilled prompt.
        script: The text to write, in tokens.
    """

    def __init__(self, sequence: Prefilled, script: Sequence[int]) -> None:
        super().__init__(sequence)
        self.target = ScriptedTarget(script)
        self.room = min(self.room, len(script))

    def choose(self, tree: Tree, logits: Tensor) -> Walk:
        """Walk by the script."""
        logits.to(torch.float32).argmax(-1).cpu()  # the same work and the same wait
        nodes, tokens = self.target.step(tree, self.ends, self.room - len(self.output))
        self.output += tokens
        self.finished = len(self.output) >= self.room
        return Walk(nodes, tokens)


class Follow(LogitsProcessor):
    """Makes transformers' own `generate` follow the same script.

    Args:
        script: The text to write, in tokens.
        prompt: Tokens before it.
    """

    def __init__(self, script: Sequence[int], prompt: int) -> None:
        self.script, self.prompt = list(script), prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Raise the scripted token above every other."""
        place = input_ids.shape[1] - self.prompt
        token = self.script[place] if place < len(self.script) else 0
        scores[:, token] = scores.max() + 1
        return scores
