"""Conversations for supervised fine-tuning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from primum.alignment.encoded import EncodedData, Reader, Served
from primum.alignment.weighting import Weighting, Weightings
from primum.language.batches import IGNORED, collate
from primum.language.chat import Encoded, Supervise, Thinking, encode
from primum.language.formats import Conversation
from primum.language.packing import Tree, flatten, trimmed
from primum.language.source import Source


@dataclass(frozen=True)
class Example:
    """An encoded conversation, the weight of each of its tokens in the loss, and its row's id.

    Args:
        group: What it shares with conversations that should share its optimizer step.
    """

    encoded: Encoded
    weights: list[float]
    id: str = ""
    group: str = ""


class ConversationData(EncodedData[Example]):
    """Batches whose labels cover exactly the answers and their end-of-turn tokens.

    Args:
        supervise: Learn the `last` answer of a conversation or `all` of them.
        thinking: `keep` the model's thinking in what is learned, or `drop` it.
        emphasis: Counts some learned tokens more than others; several multiply, also with a row's
            column `weight`.
        packing: See `EncodedData`; rows are then filled end to end, without padding.
        together: Key of `extra`: conversations that have one value there share optimizer steps, so
            that twins with opposite answers pull at once. Not with `packing`.
        others: As in `EncodedData`.
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
        emphasis: Weighting | Sequence[Weighting] | None = None,
        packing: int | None = None,
        together: str | None = None,
        group_by_length: bool = True,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            model, train, validation, batch_size, max_length, seed, packing, group_by_length,
            num_workers,
        )  # fmt: skip
        self.supervise, self.thinking, self.together = supervise, thinking, together
        parts = emphasis if isinstance(emphasis, Sequence) else [emphasis] if emphasis else []
        self.emphasis = Weightings(parts)

    def encode(self, tokenizer: Any, conversation: Conversation) -> Example:
        """One conversation as token ids, loss mask and weights."""

        whole = encode(
            tokenizer,
            conversation.messages,
            supervise=self.supervise,
            thinking=self.thinking,
            max_length=self.max_length,
        )
        weights = self.emphasis.weights(whole, conversation, tokenizer)
        group = str(conversation.extra.get(self.together or "", conversation.id))
        return Example(whole, weights, conversation.id, group)

    def size(self, example: Example) -> int:
        return len(example.encoded.input_ids)

    def groups(self, served: Sequence[Served[Example]]) -> list[int] | None:
        if self.together is None or self.packing is not None:
            return None
        numbers: dict[str, int] = {}
        return [numbers.setdefault(one.examples[0].group, len(numbers)) for one in served]

    def collate(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Labels are -100 and weights 0 off the answers.

        Padded: `weights` (rows, time). Packed: `weights` (n,), of each learned token.
        """
        if self.packing is None:
            batch: dict[str, Any] = dict(collate([one.encoded for one in examples], self.pad_id))
            batch["weights"] = torch.zeros(batch["labels"].shape)
            for row, one in enumerate(examples):
                batch["weights"][row, : len(one.weights)] = torch.tensor(one.weights)
        else:
            batch = flatten([Tree(trimmed(one.encoded)) for one in examples])
            batch["weights"] = torch.tensor(
                [
                    weight
                    for one in examples
                    for weight, learned in zip(
                        one.weights[1:], one.encoded.loss_mask[1:], strict=True
                    )
                    if learned
                ]
            )
        return batch | {"ids": [one.id for one in examples]}

    def weigh(self, batch: dict[str, Any]) -> float:
        """Learned tokens, each by its weight."""
        return float(learned_weights(batch).sum())


def learned_weights(batch: dict[str, Any]) -> torch.Tensor:
    """The weight of each learned token of a batch, (n,), in the order of `learned_places`."""
    weights = batch["weights"]
    return weights if weights.ndim == 1 else weights[:, 1:][batch["labels"][:, 1:] != IGNORED]
