"""Preference tuning: DPO and its relatives on pairs, KTO on single judgements."""

from typing import Any

import torch
from torch import Tensor, nn

from primum.alignment.language_module import LanguageModule
from primum.alignment.objectives import sequence_logprobs
from primum.alignment.objectives.likelihood import Sequences
from primum.alignment.objectives.preference import PairLoss, Pairs, sigmoid
from primum.alignment.objectives.unpaired import drift_of, kto
from primum.alignment.reference import (
    CachedReference,
    Kind,
    adapter_off,
    chosen_kind,
    still,
)
from primum.language.attention import read_trees
from primum.language.lora import Lora
from primum.language.source import Source
from primum.training.finetuning import OptimizerBuilder


class ComparedModule(LanguageModule):
    """A policy and the reference it is compared with.

    Args:
        reference: `adapter_off`: the base below the adapter, a second forward pass. `cached`:
            log-probabilities computed once before training. `copy`: a frozen second model. `auto`:
            `adapter_off` with an adapter, else `cached`. None: there is no reference.
        reference_folder: Where `cached` ones are kept for later runs.
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
        reference: Kind | None = "auto",
        reference_folder: str | None = None,
    ) -> None:
        super().__init__(model, optimizer, adapter, warmup, final, checkpointing)
        self.reference = chosen_kind(reference, adapter, ["adapter_off", "cached", "copy"])
        self.cache = CachedReference(reference_folder)
        self.copied: Any = None

    def configure_model(self) -> None:
        super().configure_model()
        for part in self.model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0  # noise in one of two log-probabilities that are subtracted
        if self.reference == "copy" and self.copied is None:
            self.copied = self.load().requires_grad_(False)
            read_trees(self.copied)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.reference == "cached":
            self.cache.prepare(self, getattr(self.trainer, "datamodule", None))

    def on_validation_start(self) -> None:
        if self.reference == "cached" and not self.cache.values:  # a validation without a fit
            self.cache.prepare(self, getattr(self.trainer, "datamodule", None))

    def reference_totals(self, batch: dict[str, Any], split: str) -> Tensor | None:
        """The reference's summed log-probabilities of both answers, (rows, 2)."""
        if self.reference is None:
            return None
        if self.reference == "cached":
            return self.cache.totals(batch, split)
        off = self.reference == "adapter_off"
        with adapter_off(self.model) if off else still(self.copied) as reference:
            return sequence_logprobs(reference, batch).total().view(-1, 2)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.reference == "cached":
            checkpoint["reference"] = self.cache.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.reference == "cached" and "reference" in checkpoint:
            self.cache.restore(checkpoint["reference"])

    def step(self, batch: dict[str, Any], split: str) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each row (rows,), and figures to log."""
        raise AssertionError("a subclass computes the loss")  # pragma: no cover

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.checked(batch)
        losses, figures = self.step(batch, "train")
        for name, value in figures.items():
            self.log(f"train/{name}", value, batch_size=len(losses))
        return self.finite((losses * batch["weight"]).sum() * batch["loss_scale"], batch)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        losses, figures = self.step(batch, "validation")
        for name, value in (figures | {"loss": losses.mean()}).items():
            self.log(
                f"val/{name}", value, prog_bar=name == "loss", sync_dist=True,
                batch_size=len(losses),
            )  # fmt: skip


class PreferenceModule(ComparedModule):
    """Learns to prefer the chosen answer of each pair.

    Args:
        objective: One of `primum.alignment.objectives.preference`; DPO if None.
        nll: Adds this weight times the chosen answer's NLL per token, which keeps it likely.
        others: As in `ComparedModule`; `reference=None` for objectives without one.
    """

    def __init__(
        self,
        model: Source,
        optimizer: OptimizerBuilder,
        adapter: Lora | None = None,
        objective: PairLoss | None = None,
        nll: float = 0.0,
        warmup: float = 0.1,
        final: float = 0.1,
        checkpointing: bool = False,
        reference: Kind | None = "auto",
        reference_folder: str | None = None,
    ) -> None:
        super().__init__(
            model, optimizer, adapter, warmup, final, checkpointing, reference, reference_folder
        )
        self.objective, self.nll = objective or sigmoid, nll

    def pairs(self, answers: Sequences, batch: dict[str, Any], split: str) -> Pairs:
        """The log-probabilities of a batch of pairs."""
        chosen, rejected = answers.total().view(-1, 2).unbind(1)
        chosen_tokens, rejected_tokens = answers.lengths.view(-1, 2).unbind(1)
        other = self.reference_totals(batch, split)
        margin = batch.get("margin")
        return Pairs(
            chosen,
            rejected,
            chosen_tokens,
            rejected_tokens,
            None if other is None else other[:, 0],
            None if other is None else other[:, 1],
            None if margin is None or bool(margin.isnan().any()) else margin,
        )

    def step(self, batch: dict[str, Any], split: str) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = self.pairs(sequence_logprobs(self.model, batch), batch, split)
        losses = self.objective(pairs)
        if self.nll:
            losses = losses - self.nll * pairs.chosen / pairs.chosen_tokens
        gap = (pairs.chosen - pairs.rejected if self.reference is None else pairs.delta).detach()
        return losses, {"preferred": (gap > 0).float().mean(), "gap": gap.mean()}


class KTOModule(ComparedModule):
    """Learns from answers that were each found good or bad.

    Args:
        beta: How fast the value of an answer saturates.
        desirable_weight, undesirable_weight: Keep weight times count between 1:1 and 4:3.
        others: As in `ComparedModule`.
    """

    def __init__(
        self,
        model: Source,
        optimizer: OptimizerBuilder,
        adapter: Lora | None = None,
        beta: float = 0.1,
        desirable_weight: float = 1.0,
        undesirable_weight: float = 1.0,
        warmup: float = 0.1,
        final: float = 0.1,
        checkpointing: bool = False,
        reference: Kind = "auto",
        reference_folder: str | None = None,
    ) -> None:
        super().__init__(
            model, optimizer, adapter, warmup, final, checkpointing, reference, reference_folder
        )
        self.beta = beta
        self.desirable_weight, self.undesirable_weight = desirable_weight, undesirable_weight

    def step(self, batch: dict[str, Any], split: str) -> tuple[Tensor, dict[str, Tensor]]:
        policy = sequence_logprobs(self.model, batch).total().view(-1, 2)
        reference = self.reference_totals(batch, split)
        assert reference is not None
        own, strange = (policy - reference).unbind(1)
        drift = drift_of(everywhere(strange.detach(), self.trainer.strategy))
        good = batch["label"] > 0.5
        losses = kto(own, good, drift, self.beta, self.desirable_weight, self.undesirable_weight)
        right = ((own.detach() - drift > 0) == good).float().mean()
        return losses, {"preferred": right, "drift": drift}


def everywhere(values: Tensor, strategy: Any) -> Tensor:
    """A tensor whose mean is that over all ranks, which may hold unequally many values."""
    total = torch.stack([values.sum(), values.new_tensor(float(len(values)))])
    total = strategy.reduce(total, reduce_op="sum")
    return (total[0] / total[1])[None]
