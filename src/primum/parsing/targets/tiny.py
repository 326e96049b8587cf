"""Tiny random checkpoints of the released architectures, in the released layout, in seconds.

What a model of this kind writes means nothing; everything around it (loading, prompts, pictures,
decoding, resuming) runs as it will with the real weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.files import atomic_folder
from primum.parsing.targets.dots.registration import register
from primum.parsing.targets.recipes import RECIPES

SHARP = ("q_norm", "k_norm", "query_layernorm", "key_layernorm")  # norms that flatten attention


def make_tiny(name: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a random checkpoint of an adapter's architecture, with its processor.

    Args:
        name: Of the adapter.
        folder: Where to write; what is there is replaced.

    Raises:
        UserError: There is no such adapter.
    """
    import torch
    from transformers import AutoModelForImageTextToText, GenerationConfig

    if name not in RECIPES:
        raise UserError(f"There is no tiny `{name}`", remedy=f"choose one of {', '.join(RECIPES)}")
    register()
    config, processor = RECIPES[name]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    enlarge(model, seed)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        for file in partial.iterdir():
            file.chmod(0o644)
    return Path(folder)


def enlarge(model: Any, seed: int) -> None:
    """Draw weights far larger than any initialiser's: tokens are hardly tied, texts wander."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    words = model.get_input_embeddings().weight
    tied = words is model.get_output_embeddings().weight  # a large one would repeat its input
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "pos_embed" not in name and "rel_pos" not in name:
            wide = "embed" in name or "head" in name
            scale = 1.0 if wide else 2.5 / weight[0].numel() ** 0.5
            scale = 0.05 if weight is words and tied else scale
            weight.data = scale * torch.randn(weight.shape, generator=generator)
        elif name.rpartition(".")[0].endswith(SHARP):
            weight.data.fill_(3.0)
