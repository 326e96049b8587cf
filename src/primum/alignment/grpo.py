"""GRPO and GRPO-Lagrangian: the model answers, answers are compared, the better become likelier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from primum.alignment.language_module import LanguageModule
from primum.alignment.objectives import sequence_logprobs
from primum.alignment.objectives.lagrangian import Multiplier
from primum.alignment.objectives.policy import (
    Clip,
    Combine,
    Kind,
    Scale,
    combined_advantages,
    lagrangian_advantages,
    step_total,
    token_losses,
    token_weights,
)
from primum.alignment.prompts import Prompt
from primum.alignment.reference import Kind as ReferenceKind
from primum.alignment.reference import adapter_off, chosen_kind, still
from primum.alignment.rollouts import Answer, LocalSampler, Sampler, Stopwatch, tree
from primum.errors import UserError
from primum.judges.rewards.reward import Attempt, RewardSet
from primum.language.attention import read_trees
from primum.language.lora import Lora
from primum.language.packing import flatten
from primum.language.source import Source
from primum.training.finetuning import OptimizerBuilder

WATCHED = 50  # steps without any difference in reward before a word is said


class GRPOModule(LanguageModule):
    """Group-relative policy optimization without a critic.

    One optimizer step samples a group of answers to each prompt of all its micro-batches, rewards
    and compares them, and then takes the gradient micro-batch by micro-batch. A prompt is computed
    once for all its answers. The loss is normalised over the whole step and all ranks.

    Args:
        rewards: What is wanted.
        costs: What must stay below the multiplier's threshold in the mean (GRPO-Lagrangian).
        multiplier: The constraint on the summed costs; needed with `costs`.
        group: Answers to one prompt.
        sampler: Who writes them; this model if None.
        kind: The loss; see `primum.alignment.objectives.policy.token_losses`.
        combine, scale: How rewards become advantages; see `combined_advantages`.
        clip: How far one step may go.
        beta: Weight of the KL to the reference; 0 needs no reference.
        reference: The base below the adapter (`adapter_off`) or a frozen `copy`.
        learn_cut: Learn also from answers that were cut at their longest.
        others: As in `LanguageModule`.
    """

    def __init__(
        self,
        model: Source,
        optimizer: OptimizerBuilder,
        rewards: RewardSet,
        costs: RewardSet | None = None,
        multiplier: Multiplier | None = None,
        adapter: Lora | None = None,
        group: int = 8,
        sampler: Sampler | None = None,
        kind: Kind = "dapo",
        combine: Combine = "sum_then_normalise",
        scale: Scale | None = None,
        clip: Clip | None = None,
        beta: float = 0.0,
        reference: ReferenceKind = "auto",
        learn_cut: bool = True,
        warmup: float = 0.1,
        final: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(model, optimizer, adapter, warmup, final, checkpointing)
        if (costs is None) != (multiplier is None):
            raise UserError("Costs and a multiplier come together, or not at all")
        self.rewards, self.costs, self.multiplier = rewards, costs, multiplier
        self.group, self.sampler = group, sampler or LocalSampler()
        self.kind, self.combine, self.clip, self.beta = kind, combine, clip, beta
        self.scale: Scale = scale or ("none" if kind == "dr_grpo" else "group")
        self.learn_cut = learn_cut
        allowed = ["adapter_off", "copy"]
        self.reference = chosen_kind(reference, adapter, allowed) if beta else None
        self.copied: Any = None
        self.watch, self.alike = Stopwatch(), 0

    def configure_model(self) -> None:
        super().configure_model()
        if not self.takes_trees:
            raise UserError(
                "GRPO needs PyTorch's attention, and this model uses another",
                remedy="model.attention=sdpa",
            )
        for part in self.model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0  # what is learned from is what was sampled
        if self.reference == "copy" and self.copied is None:
            self.copied = self.load().requires_grad_(False)
            read_trees(self.copied)

    @property
    def longest(self) -> int:
        """Tokens of the longest answer there can be."""
        return int(getattr(self.sampler, "max_new_tokens", 0)) or 1

    # Before a step: answers, rewards, advantages

    def roll_out(self, window: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The micro-batches of one optimizer step, from prompts to answers with advantages."""
        prompts = [prompt for batch in window for prompt in batch["prompts"]]
        with self.watch.running():
            seed = self.trainer.global_step + 1_000_003 * self.trainer.current_epoch
            groups = self.sampler.sample(self, prompts, self.group, seed)
        advantages, figures = self.judged(prompts, groups)
        figures["sampling_share"] = self.watch.share()
        batches, done = [], 0
        for batch in window:
            number = len(batch["prompts"])
            batches.append(
                self.batch(
                    prompts[done : done + number],
                    groups[done : done + number],
                    advantages[done * self.group : (done + number) * self.group],
                )
                | {"ids": batch["ids"], "figures": figures}
            )
            done += number
        return batches

    def judged(
        self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Answer]]
    ) -> tuple[Tensor, dict[str, float]]:
        """The advantage of each answer, and figures of this step over all ranks."""
        attempts = [
            Attempt(prompt.text, answer.text, len(answer.ids), answer.finished, prompt.row)
            for prompt, answers in zip(prompts, groups, strict=True)
            for answer in answers
        ]
        rewards = tensors(self.rewards.score(attempts))
        advantages = combined_advantages(
            rewards, self.rewards.weights, self.group, self.combine, self.scale, self.moments
        )
        total = torch.stack([self.rewards.weights[name] * one for name, one in rewards.items()])
        figures = {f"reward/{name}": one for name, one in rewards.items()}
        figures["reward"] = total.sum(0)
        if self.costs is not None and self.multiplier is not None:
            costs = tensors(self.costs.score(attempts))
            cost = torch.stack([self.costs.weights[name] * one for name, one in costs.items()])
            figures |= {f"cost/{name}": one for name, one in costs.items()}
            figures["cost"] = cost.sum(0)
            self.multiplier.update(self.mean(figures["cost"]))
            advantages = lagrangian_advantages(
                advantages,
                combined_advantages(
                    costs, self.costs.weights, self.group, self.combine, self.scale, self.moments
                ),
                self.multiplier.value,
            )
        figures["tokens"] = torch.tensor([float(one.tokens) for one in attempts])
        figures["cut"] = torch.tensor([float(not one.finished) for one in attempts])
        apart = (advantages.view(-1, self.group) != 0).any(1)
        figures["equal_groups"] = 1 - apart.float()
        said = {name: self.mean(one) for name, one in figures.items()}
        if self.multiplier is not None:
            said["multiplier"] = self.multiplier.value
        self.warn_if_alike(said["equal_groups"])
        return advantages, said

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over all ranks."""
        said = torch.stack([values.new_tensor(len(values)), values.sum(), values.square().sum()])
        said = self.trainer.strategy.reduce(said.to(self.device), reduce_op="sum").cpu()
        number, total, squares = said
        mean = total / number
        variance = (squares - number * mean.square()) / (number - 1).clamp(min=1)
        return mean, variance.clamp(min=0).sqrt()

    def mean(self, values: Tensor) -> float:
        """The mean over all ranks."""
        return float(self.moments(values)[0])

    def warn_if_alike(self, equal: float) -> None:
        """Say so when nothing is learned for long."""
        self.alike = self.alike + 1 if equal == 1.0 else 0
        if self.alike == WATCHED:
            import warnings

            warnings.warn(
                f"For {WATCHED} steps all answers to a prompt were rewarded alike, so nothing was "
                "learned: look at the rewards, raise the temperature or the group",
                stacklevel=2,
            )

    def batch(
        self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Answer]], advantages: Tensor
    ) -> dict[str, Any]:
        """Some prompts with their answers in one row of trees."""
        trees = [
            tree(prompt.input_ids, answers) for prompt, answers in zip(prompts, groups, strict=True)
        ]
        answers = [answer for group in groups for answer in group]
        learned = [self.learn_cut or answer.finished for answer in answers]
        lengths = [len(one.ids) for one in answers]
        weights = token_weights(self.kind, lengths, self.longest) * torch.tensor(learned)
        kept = [length for length, one in zip(lengths, learned, strict=True) if one]
        return flatten(trees) | {
            "advantages": advantages,
            "token_weights": weights,
            "divisor": step_total(self.kind, kept) if kept else 0.0,
        }

    # The step itself

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        for name, value in batch["figures"].items():
            self.log(f"train/{name}", value, batch_size=1)
        temperature = float(getattr(self.sampler, "temperature", 1.0)) or 1.0
        reference = None
        if self.reference is not None:
            off = self.reference == "adapter_off"
            with adapter_off(self.model) if off else still(self.copied) as other:
                reference = sequence_logprobs(other, batch, temperature).tokens
        policy = sequence_logprobs(self.model, batch, temperature)
        losses = token_losses(
            policy.tokens,
            policy.tokens.detach(),  # each step learns from answers of the policy it changes
            batch["advantages"].to(policy.tokens),
            policy.owners,
            self.kind,
            self.clip,
            reference,
            self.beta,
        )
        loss = (losses * batch["token_weights"][policy.owners]).sum() * batch["loss_scale"]
        return self.finite(loss, batch)


def tensors(scores: Mapping[str, Sequence[float]]) -> dict[str, Tensor]:
    """Scores as float32."""
    return {name: torch.tensor(one, dtype=torch.float32) for name, one in scores.items()}
