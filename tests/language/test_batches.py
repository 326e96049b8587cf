"""Batches pad on the right and label only what is learned."""

import torch

from primum.language.batches import collate, pad_id
from primum.language.chat import Encoded


def test_labels_are_the_learned_tokens():
    batch = collate(
        [Encoded([5, 6, 7], [False, True, True]), Encoded([8, 9], [False, True])], pad_id=0
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, 9, -100]]
    assert all(one.dtype == torch.int64 for one in batch.values())


def test_length_is_rounded_up():
    batch = collate([Encoded([1] * 9, [True] * 9)], pad_id=0, multiple_of=8)
    assert batch["labels"].shape == (1, 16)


def test_padding_needs_no_padding_token(tiny):
    tokenizer = tiny("llama").tokenizer()
    assert pad_id(tokenizer) == tokenizer.pad_token_id
    tokenizer.pad_token = None
    assert pad_id(tokenizer) == tokenizer.eos_token_id
