"""Reward and cost models: a language model with a scalar head, learned from pairs of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from primum.alignment.language_module import LanguageModule
from primum.alignment.objectives.likelihood import INPUTS, learned_places
from primum.alignment.objectives.reward import bradley_terry, cost
from primum.errors import UserError
from primum.judges.rewards.reward import Attempt
from primum.language.attention import read_trees
from primum.language.batches import collate, pad_id
from primum.language.chat import Thinking, encode
from primum.language.lora import Lora
from primum.language.packing import trimmed
from primum.language.precision import pick_dtype
from primum.language.source import Source, explained
from primum.training.finetuning import OptimizerBuilder


def load_scorer(source: Source) -> Any:
    """The model with one score a text; a new head, starting at 0, where it has none.

    Raises:
        UserError: It cannot be loaded.
    """
    from transformers import AutoModelForSequenceClassification

    where = source.locate()
    options: dict[str, Any] = {"num_labels": 1, "dtype": pick_dtype(requested=source.dtype)}
    if source.attention is not None:
        options["attn_implementation"] = source.attention
    with explained(source.name, where):
        model = AutoModelForSequenceClassification.from_pretrained(
            where, revision=source.revision, trust_remote_code=source.trust_remote_code, **options
        )
    if model.config.pad_token_id is None:  # the model's own forward looks for the last token by it
        model.config.pad_token_id = pad_id(source.tokenizer())
    return model.eval()


def scores(model: Any, batch: Mapping[str, Any]) -> Tensor:
    """The score of each answer at its last token, float32 (answers,); batch as in `Sequences`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    given = {name: batch[name] for name in INPUTS if name in batch}
    hidden = getattr(base, base.base_model_prefix)(**given, use_cache=False).last_hidden_state
    if "finals" in batch:
        finals = batch["finals"]
    else:
        places, _, owners = learned_places(batch)
        # the last of a row's places predicts its last token, which stands one behind
        finals = places.new_zeros(len(batch["input_ids"])).scatter_reduce(
            0, owners, places + 1, "amax"
        )
    return base.score(hidden.flatten(0, 1)[finals]).squeeze(-1).float()


class RewardModule(LanguageModule):
    """Learns to score the chosen answer of each pair above the other (Bradley-Terry).

    Args:
        margins: Ask for a distance of the pair's margin at least.
        centre: Weight of the pull of scores towards 0.
        others: As in `LanguageModule`.
    """

    task = "SEQ_CLS"

    def __init__(
        self,
        model: Source,
        optimizer: OptimizerBuilder,
        adapter: Lora | None = None,
        margins: bool = False,
        centre: float = 0.0,
        warmup: float = 0.1,
        final: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(model, optimizer, adapter, warmup, final, checkpointing)
        self.margins, self.centre = margins, centre

    def load(self) -> Any:
        return load_scorer(self.source)

    def losses(self, chosen: Tensor, rejected: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """One loss a pair; scores (pairs,)."""
        margin = batch["margin"] if self.margins else None
        if margin is not None and bool(margin.isnan().any()):
            raise UserError(
                "Some pairs carry no margin", remedy="fill the column, or module.margins=false"
            )
        return bradley_terry(chosen, rejected, margin, self.centre)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.checked(batch)
        chosen, rejected = scores(self.model, batch).view(-1, 2).unbind(1)
        losses = self.losses(chosen, rejected, batch)
        right = (self.preferred(chosen, rejected)).float().mean()
        self.log("train/preferred", right, batch_size=len(losses))
        return self.finite((losses * batch["weight"]).sum() * batch["loss_scale"], batch)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        chosen, rejected = scores(self.model, batch).view(-1, 2).unbind(1)
        figures = {
            "val/loss": self.losses(chosen, rejected, batch).mean(),
            "val/preferred": self.preferred(chosen, rejected).float().mean(),
        }
        self.log_dict(figures, sync_dist=True, batch_size=len(chosen))

    def preferred(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        """Which pairs are in the right order."""
        return chosen > rejected


class CostModule(RewardModule):
    """Learns a cost that is above 0 for harmful answers: the rejected answer costs more.

    Reads the flags `chosen_unsafe` (false where absent) and `rejected_unsafe` (true where absent).
    """

    def losses(self, chosen: Tensor, rejected: Tensor, batch: Mapping[str, Any]) -> Tensor:
        return cost(rejected, chosen, batch["rejected_unsafe"] > 0, batch["chosen_unsafe"] > 0)

    def preferred(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return chosen < rejected


class LearnedReward:
    """A trained reward or cost model as a reward of GRPO.

    Args:
        model: The directory a `RewardModule` or `CostModule` left, or a hub id.
        name: What it is logged as.
        batch_size: Answers scored at a time.
        thinking: Whether it reads the thinking too.
        bound: Scores are held in [-bound, bound].
    """

    def __init__(
        self,
        model: Source,
        name: str = "learned",
        batch_size: int = 16,
        thinking: Thinking = "drop",
        bound: float = 20.0,
    ) -> None:
        self.source, self.name, self.judge = model, name, model.name
        self.batch_size, self.thinking, self.bound = batch_size, thinking, bound
        self.model: Any = None

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        """One score an answer; an empty answer scores the lowest."""
        if self.model is None:
            self.model, self.tokenizer = load_scorer(self.source), self.source.tokenizer()
            if torch.cuda.is_available():
                self.model.cuda()
            read_trees(self.model)
        found: list[float | None] = [-self.bound] * len(attempts)
        said = [number for number, one in enumerate(attempts) if one.answer.strip()]
        for start in range(0, len(said), self.batch_size):
            some = said[start : start + self.batch_size]
            rows = [
                trimmed(
                    encode(
                        self.tokenizer,
                        [
                            {"role": "user", "content": attempts[number].prompt},
                            {"role": "assistant", "content": attempts[number].answer},
                        ],
                        thinking=self.thinking,
                    )
                )
                for number in some
            ]
            batch = collate(rows, pad_id(self.tokenizer))
            with torch.no_grad():
                given = scores(
                    self.model, {key: one.to(self.model.device) for key, one in batch.items()}
                )
            for number, score in zip(
                some, given.clamp(-self.bound, self.bound).tolist(), strict=True
            ):
                found[number] = score
        return found
