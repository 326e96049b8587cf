"""What supervised fine-tuning minimises."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from primum.alignment.objectives.likelihood import token_logprobs


def weighted_nll(logprobs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sum of -log p; both (n,)."""
    return -(logprobs if weights is None else logprobs * weights).sum()


def weighted_dft(logprobs: Tensor, weights: Tensor | None = None) -> Tensor:
    """DFT (Wu et al., 2025, eq. 9): each token's loss times its own probability, held constant."""
    losses = logprobs.detach().exp() * logprobs
    return weighted_nll(losses, weights)


def negative_log_likelihood(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Weighted sum of -log p(target), in float32; logits (n, vocabulary), targets, weights (n,).

    >>> negative_log_likelihood(torch.zeros(3, 4), torch.tensor([0, 1, 2])) / 3  # log 4
    tensor(1.3863)
    """
    return weighted_nll(token_logprobs(logits, targets), weights)


def dynamic_fine_tuning(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """`weighted_dft` from logits (n, vocabulary).

    >>> dynamic_fine_tuning(torch.zeros(3, 4), torch.tensor([0, 1, 2])) / 3  # log(4) / 4
    tensor(0.3466)
    """
    return weighted_dft(token_logprobs(logits, targets), weights)


@contextmanager
def neftune(embedding: nn.Module, lengths: Tensor, alpha: float) -> Iterator[None]:
    """NEFTune (Jain et al., 2024, alg. 1): uniform noise on the embeddings while training.

    e' = e + alpha / sqrt(L d) U(-1, 1), with L the tokens of the text and d the width.

    Args:
        embedding: The model's input embedding.
        lengths: L of the text each position belongs to, (rows, time).
        alpha: Strength; the paper's is 5, 10 or 15. 0 adds nothing.
    """
    if not alpha or not embedding.training:
        yield
        return

    def noisy(_: nn.Module, __: object, embedded: Tensor) -> Tensor:
        size = alpha / (lengths.to(embedded) * embedded.shape[-1]).sqrt()
        return embedded + size[..., None] * torch.empty_like(embedded).uniform_(-1, 1)

    hook = embedding.register_forward_hook(noisy)
    try:
        yield
    finally:
        hook.remove()
