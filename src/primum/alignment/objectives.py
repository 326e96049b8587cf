"""What supervised fine-tuning minimises, as pure functions."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from primum.language.batches import IGNORED


@contextmanager
def only_positions(head: nn.Module, keep: Tensor) -> Iterator[None]:
    """Let the output head see the kept positions alone: (batch, time, width) -> (kept, width).

    The head is the widest layer of a small language model. A hook, and not the hidden states,
    keeps whatever a model does after its head (scaling, soft-capping) in place.
    """
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][keep], *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()


def supervised_logits(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits that predict each supervised token, and those tokens.

    Args:
        model: A causal language model, with or without an adapter.
        input_ids: Token ids, (batch, time).
        attention_mask: 1 on tokens, 0 on padding, (batch, time).
        labels: Token ids where the loss looks, `IGNORED` elsewhere, (batch, time).

    Returns:
        Logits (supervised, vocabulary) and targets (supervised,), row by row.
    """
    keep = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][keep]
    keep = F.pad(keep, (0, 1))  # position t predicts token t + 1
    with only_positions(model.get_output_embeddings(), keep):
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    return logits, targets


def negative_log_likelihood(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Weighted sum of -log p(target), in float32; logits (n, vocabulary), targets, weights (n,).

    >>> import torch
    >>> negative_log_likelihood(torch.zeros(3, 4), torch.tensor([0, 1, 2])) / 3  # log 4
    tensor(1.3863)
    """
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    return (losses if weights is None else losses * weights).sum()
