"""Supervised fine-tuning: the model learns to give the answers of the data, whole or by adapter."""

from typing import Any, Literal

import torch
from torch import Tensor

from primum.alignment.conversations import learned_weights
from primum.alignment.language_module import LanguageModule
from primum.alignment.objectives import sequence_logprobs
from primum.alignment.objectives.supervised import neftune, weighted_dft, weighted_nll
from primum.language.lora import Lora
from primum.language.source import Source
from primum.training.finetuning import OptimizerBuilder

LOSSES = {"nll": weighted_nll, "dft": weighted_dft}


class SFTModule(LanguageModule):
    """Completion-only supervised fine-tuning of a causal language model.

    The loss of an optimizer step is the weighted sum of -log p over its learned tokens divided by
    their weight over all ranks and accumulated micro-batches, so neither changes what is learned.

    Args:
        loss: `nll`, or `dft`, which weighs each token by its own probability.
        noise: NEFTune's alpha; 0 adds no noise to the embeddings.
        others: As in `LanguageModule`.
    """

    def __init__(
        self,
        model: Source,
        optimizer: OptimizerBuilder,
        adapter: Lora | None = None,
        warmup: float = 0.1,
        final: float = 0.1,
        checkpointing: bool = False,
        loss: Literal["nll", "dft"] = "nll",
        noise: float = 0.0,
    ) -> None:
        super().__init__(model, optimizer, adapter, warmup, final, checkpointing)
        self.loss, self.noise = LOSSES[loss], noise

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.checked(batch)
        with neftune(self.model.get_input_embeddings(), text_lengths(batch), self.noise):
            logprobs = sequence_logprobs(self.model, batch).tokens
        loss = self.loss(logprobs, learned_weights(batch)) * batch["loss_scale"]
        return self.finite(loss, batch)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        logprobs = sequence_logprobs(self.model, batch).tokens
        loss = weighted_nll(logprobs) / len(logprobs)
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(logprobs))


def text_lengths(batch: dict[str, Any]) -> Tensor:
    """Tokens of the text each position belongs to, (rows, time)."""
    if "trees" not in batch:
        return batch["attention_mask"].sum(1, keepdim=True).expand_as(batch["attention_mask"])
    sizes = torch.tensor([sum(sizes) for sizes in batch["trees"]], device=batch["input_ids"].device)
    return sizes.repeat_interleave(sizes)[None]
