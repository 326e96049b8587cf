"""Encoded conversations become one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from primum.language.chat import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label cross entropy skips


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token id to pad with; any will do, as the attention mask hides it and no label is there."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(candidate, int):
            return candidate
    return 0


def collate(
    encoded: Sequence[Encoded], pad_id: int, *, multiple_of: int = 1
) -> dict[str, torch.Tensor]:
    """Pad on the right to the longest, rounded up to `multiple_of`.

    Returns:
        `input_ids`, `attention_mask` and `labels`, each int64 of shape (batch, length). A label is
        the token itself where it carries loss, -100 elsewhere; models shift them by one themselves.
    """
    longest = max(len(one.input_ids) for one in encoded)
    length = -(-longest // multiple_of) * multiple_of
    input_ids = torch.full((len(encoded), length), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORED)
    for row, one in enumerate(encoded):
        size = len(one.input_ids)
        ids = torch.tensor(one.input_ids)
        input_ids[row, :size] = ids
        attention_mask[row, :size] = 1
        labels[row, :size] = ids.where(torch.tensor(one.loss_mask), IGNORED)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
