"""Small conversations, and a trainer for them, that several tests share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch

from primum.judges.rewards.reward import Attempt
from primum.language.formats import Conversation


def conversation(number: int, **extra: Any) -> Conversation:
    """A sum, its right answer and, as the rejected one, a wrong one."""
    question = f"What is {number} and {number}?" + " Please." * (number % 4)
    answer = f"It is {2 * number}." + " Ask again." * (number % 3)
    return Conversation(
        f"sum-{number}",
        ({"role": "user", "content": question}, {"role": "assistant", "content": answer}),
        ({"role": "assistant", "content": "No idea." + " Go." * (number % 2)},),
        "sums.jsonl",
        number + 1,
        extra,
    )


def pairs(number: int = 12) -> list[Conversation]:
    """Preference pairs."""
    return [conversation(n, margin=n / 10) for n in range(number)]


def labelled(number: int = 12) -> list[Conversation]:
    """Answers found good or bad in turn."""
    return [conversation(n, label=n % 2 == 0) for n in range(number)]


def asked(number: int = 4) -> list[Conversation]:
    """Prompts, unsafe and benign in turn."""
    return [conversation(n, kind="unsafe" if n % 2 else "benign", gold="B") for n in range(number)]


def trainer(**options: Any) -> lightning.Trainer:
    """A trainer on one CPU that prints and keeps nothing."""
    return lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip


def weights(module: lightning.LightningModule) -> torch.Tensor:
    """All trained weights in one row."""
    return torch.cat([one.detach().flatten() for one in module.parameters() if one.requires_grad])


@dataclass
class Letter:
    """The share of an answer's characters that are the letter."""

    letter: str = "e"
    name: str = "letter"

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        return [one.answer.count(self.letter) / max(1, len(one.answer)) for one in attempts]
