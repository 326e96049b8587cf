"""How probable a model finds the learned tokens of a batch, without logits for the others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from primum.alignment.objectives.head import LARGE, backbone_and_head, sliced_logprobs
from primum.language.batches import IGNORED

ROWS = 512  # logits turned to float32 at a time
INPUTS = ("input_ids", "attention_mask", "position_ids", "trees")


@contextmanager
def only_positions(head: nn.Module, positions: Tensor) -> Iterator[None]:
    """Let the output head see some positions alone: (batch, time, width) -> (n, width).

    The head is the widest layer of a small language model. A hook, and not the hidden states,
    keeps whatever a model does after its head (scaling, soft-capping) in place.

    Args:
        positions: Indices into the flattened (batch * time), in any order, also repeated; (n,).
    """
    hook = head.register_forward_pre_hook(
        lambda _, inputs: (inputs[0].flatten(0, 1).index_select(0, positions), *inputs[1:])
    )
    try:
        yield
    finally:
        hook.remove()


def learned_places(batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Where each learned token is predicted, which it is, and whose.

    Args:
        batch: Either padded, with `labels` (rows, time) that are `IGNORED` off the answers, or
            flat, as `primum.language.packing.flatten` makes it.

    Returns:
        Positions in the flattened (rows * time), target ids, and sequence numbers; each (n,).
    """
    if "labels" not in batch:
        return batch["sources"], batch["targets"], batch["owners"]
    following = batch["labels"][:, 1:]  # position t predicts token t + 1
    rows, columns = (following != IGNORED).nonzero(as_tuple=True)
    return rows * batch["labels"].shape[1] + columns, following[rows, columns], rows


def logits_at(model: Any, batch: Mapping[str, Any], positions: Tensor) -> Tensor:
    """Logits (n, vocabulary) at positions of the flattened (rows * time)."""
    given = {name: batch[name] for name in INPUTS if name in batch}
    with only_positions(model.get_output_embeddings(), positions):
        return model(**given, use_cache=False).logits


def supervised_logits(model: Any, **batch: Any) -> tuple[Tensor, Tensor]:
    """Logits that predict each learned token (n, vocabulary), and those tokens (n,).

    Args:
        model: A causal language model, with or without an adapter.
        batch: As in `learned_places`, with `input_ids`, and `attention_mask` where it is padded.
    """
    positions, targets, _ = learned_places(batch)
    return logits_at(model, batch, positions), targets


class _TokenLogprobs(torch.autograd.Function):
    """log softmax at the targets, keeping the logits in their own dtype and nothing else as large.

    `cross_entropy` on bf16 logits holds them three times more in float32; this recomputes a few
    hundred rows at a time.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        totals = logits.new_empty(len(logits), dtype=torch.float32)
        for some, total in zip(logits.split(ROWS), totals.split(ROWS), strict=True):
            total.copy_(some.float().logsumexp(-1))
        ctx.save_for_backward(logits, targets, totals)
        return logits.gather(1, targets[:, None])[:, 0].float() - totals

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, targets, totals = ctx.saved_tensors
        result = torch.empty_like(logits)
        for some, target, total, gradient, out in zip(
            *(one.split(ROWS) for one in (logits, targets, totals, gradients[0], result)),
            strict=True,
        ):
            chances = (some.float() - total[:, None]).exp_()
            chances.mul_(-gradient[:, None]).scatter_add_(1, target[:, None], gradient[:, None])
            out.copy_(chances)
        return result, None


def token_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(target), in float32; logits (n, vocabulary), targets (n,).

    >>> token_logprobs(torch.zeros(1, 4), torch.tensor([2]))  # -log 4
    tensor([-1.3863])
    """
    if not logits.shape[0]:
        return logits.sum(-1).float()  # keeps the graph of a batch in which nothing is learned
    return _TokenLogprobs.apply(logits, targets)


@dataclass(frozen=True)
class Sequences:
    """Log-probabilities of some answers, token by token.

    Args:
        tokens: Of each learned token, (n,).
        owners: Which answer it belongs to, (n,).
        number: How many answers there are.
    """

    tokens: Tensor
    owners: Tensor
    number: int

    def total(self, values: Tensor | None = None) -> Tensor:
        """Sum over the tokens of each answer, of their log-probability or of `values`."""
        values = self.tokens if values is None else values
        return values.new_zeros(self.number).index_add(0, self.owners, values)

    @property
    def lengths(self) -> Tensor:
        """Learned tokens of each answer, as floats."""
        return torch.bincount(self.owners, minlength=self.number).to(self.tokens.dtype)


def sequence_logprobs(model: Any, batch: Mapping[str, Any], temperature: float = 1.0) -> Sequences:
    """log p of each learned token, and the answers they make; batch as in `learned_places`.

    Args:
        temperature: What sampling divided the logits by.
    """
    positions, targets, owners = learned_places(batch)
    number = len(batch["input_ids"]) if "labels" in batch else int(batch["sequences"])
    return Sequences(logprobs_at(model, batch, positions, targets, temperature), owners, number)


def logprobs_at(
    model: Any, batch: Mapping[str, Any], positions: Tensor, targets: Tensor, heat: float = 1.0
) -> Tensor:
    """log p of each target (n,); logits that would be large are computed slice by slice."""
    large = len(targets) * model.config.get_text_config().vocab_size * 2 > LARGE
    parts = backbone_and_head(model) if large else None
    if parts is not None:
        given = {name: batch[name] for name in INPUTS if name in batch}
        hidden = parts[0](**given, use_cache=False).last_hidden_state
        return sliced_logprobs(
            hidden.flatten(0, 1).index_select(0, positions), parts[1], targets, heat
        )
    logits = logits_at(model, batch, positions)
    return token_logprobs(logits if heat == 1.0 else logits / heat, targets)
