"""Conversations for fine-tuning: encoded once, batched by length, the same again after a resume."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from primum.alignment.emphasis import Emphasis
from primum.errors import UserError
from primum.language.batches import collate, pad_id
from primum.language.chat import Encoded, Supervise, Thinking, TooLong, encode
from primum.language.formats import Conversation
from primum.language.source import Source
from primum.training.loading import ResumableLoader

Reader = Callable[[], list[Conversation]]


@dataclass(frozen=True)
class Example:
    """An encoded conversation and the weight of each of its tokens in the loss."""

    encoded: Encoded
    weights: list[float]


class ConversationData(LightningDataModule):
    """Batches whose labels cover exactly the answers and their end-of-turn tokens.

    Args:
        model: Gives the tokenizer and chat template.
        train: Reads the training conversations.
        validation: Reads the held-out ones, whose loss is logged; none if absent.
        batch_size: Conversations in one micro-batch.
        supervise: Learn the `last` answer of a conversation or `all` of them.
        thinking: `keep` the model's thinking in what is learned, or `drop` it.
        max_length: Longest conversation in tokens; longer ones are left out and counted.
        seed: The order of epoch e is a function of (seed, e) alone.
        emphasis: Counts some learned tokens more than others.
        group_by_length: Batch conversations of like length, so that little is padding.
        num_workers: Processes that collate; 0 is fastest for short texts.
    """

    def __init__(
        self,
        model: Source,
        train: Reader,
        validation: Reader | None = None,
        batch_size: int = 8,
        supervise: Supervise = "last",
        thinking: Thinking = "keep",
        max_length: int = 2048,
        seed: int = 0,
        emphasis: Emphasis | None = None,
        group_by_length: bool = True,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.source = model
        self.readers = {"train": train} | ({"validation": validation} if validation else {})
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.supervise, self.thinking, self.max_length = supervise, thinking, max_length
        self.group_by_length, self.emphasis = group_by_length, emphasis or Emphasis()
        self.examples: dict[str, list[Example]] = {}
        self.read: dict[str, list[Conversation]] = {}
        self.left_out: dict[str, int] = {}

    def setup(self, stage: str) -> None:
        """Read and encode each split once."""
        if self.examples:
            return
        tokenizer = self.source.tokenizer()
        self.pad_id = pad_id(tokenizer)
        for split, reader in self.readers.items():
            kept, conversations = [], reader()
            for conversation in conversations:
                try:
                    kept.append(self.encode(tokenizer, conversation))
                except TooLong:
                    continue
                except UserError as error:
                    raise UserError(
                        error.problem,
                        file=error.file or conversation.file,
                        row=error.row or conversation.row,
                        remedy=error.remedy,
                    ) from error
            self.left_out[split] = len(conversations) - len(kept)
            if not kept:
                raise UserError(
                    f"The {split} split has no conversation to learn from"
                    f" ({len(conversations)} read, {self.left_out[split]} longer than"
                    f" max_length={self.max_length})",
                    remedy="check the data file, or raise data.max_length",
                )
            self.read[split], self.examples[split] = conversations, kept

    def encode(self, tokenizer: Any, conversation: Conversation) -> Example:
        """One conversation as token ids, loss mask and weights."""
        encoded = encode(
            tokenizer,
            conversation.messages,
            supervise=self.supervise,
            thinking=self.thinking,
            max_length=self.max_length,
        )
        return Example(encoded, self.emphasis.weights(encoded, conversation))

    def train_dataloader(self) -> ResumableLoader:
        examples = self.examples["train"]
        assert self.trainer is not None
        return ResumableLoader(
            examples,  # type: ignore[arg-type]
            self.trainer,
            batch_size=self.batch_size,
            seed=self.seed,
            lengths=[len(one.encoded.input_ids) for one in examples]
            if self.group_by_length
            else None,
            weigh=total_weight,
            collate_fn=self.collate,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> list[DataLoader]:
        if "validation" not in self.examples:
            return []
        by_length = sorted(self.examples["validation"], key=lambda one: len(one.encoded.input_ids))
        return [DataLoader(by_length, batch_size=self.batch_size, collate_fn=self.collate)]  # type: ignore[arg-type]

    def collate(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Pad on the right; labels are -100 and weights 0 off the answers."""
        batch = collate([one.encoded for one in examples], self.pad_id)
        batch["weights"] = torch.zeros(batch["labels"].shape)
        for row, one in enumerate(examples):
            batch["weights"][row, : len(one.weights)] = torch.tensor(one.weights)
        return batch

    def fingerprints(self) -> list[dict[str, Any]]:
        """Name, rows and SHA-256 of what each split held, for the manifest."""
        return [
            {
                "name": ", ".join(sorted({str(one.file) for one in conversations})),
                "split": split,
                "rows": len(conversations),
                "left_out": self.left_out[split],
                "sha256": fingerprint(conversations),
            }
            for split, conversations in self.read.items()
        ]


def total_weight(batch: dict[str, Any]) -> float:
    """What the losses of a batch are divided by: its learned tokens, each by its weight."""
    return float(batch["weights"][:, 1:].sum())


def fingerprint(conversations: Sequence[Conversation]) -> str:
    """SHA-256 over ids and messages, in order; independent of the file format they came in."""
    digest = hashlib.sha256()
    for one in conversations:
        digest.update(json.dumps([one.id, list(one.messages)], ensure_ascii=False).encode())
    return digest.hexdigest()
