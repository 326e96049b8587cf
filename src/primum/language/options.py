"""How probable a model finds each of several continuations of a prompt, each prompt read once.

A prompt is run a single time, however many options follow it, and what all prompts of a batch begin
with is run once for all of them. The vocabulary is projected only where an option's token is
predicted. The figures are those of scoring every prompt with every option by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from primum.errors import UserError
from primum.language.batches import pad_id
from primum.language.generate import CompletionScore, answering
from primum.language.side_by_side import side_by_side

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WORTH_SHARING = 32  # tokens that all prompts of a batch begin with


@dataclass(frozen=True)
class Pieces:
    """A prompt's tokens, and those that each option adds to them."""

    prompt: list[int]
    options: list[list[int]]


def option_logprobs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    *,
    batch_size: int,
    special_tokens: bool = True,
) -> list[list[CompletionScore]]:
    """Log-probability (nats) of every option as what follows its prompt.

    Args:
        prompts: Rendered texts, without trailing space.
        options: For each prompt its continuations, with their leading space where there is one.
        batch_size: Prompts a batch; where options are longer than a token, so many of them. On a
            CPU it is shared out among the threads.
        special_tokens: Let the tokenizer open the text as it usually does; False for a text that a
            chat template has rendered.

    Returns:
        One list a prompt, one score an option, in the order given.

    Raises:
        UserError: A prompt does not fit into the model's context, or an option has no token.
    """
    pieces = [
        split(tokenizer, prompt, choices, special_tokens)
        for prompt, choices in zip(prompts, options, strict=True)
    ]
    _check_fit(model, pieces)
    most = max((len(piece.options) for piece in pieces), default=1)
    single = all(len(option) == 1 for piece in pieces for option in piece.options)
    rows = batch_size if single else max(1, batch_size // most)
    order = sorted(range(len(pieces)), key=lambda index: len(pieces[index].prompt), reverse=True)
    scores: dict[int, list[CompletionScore]] = {}
    with answering(model):
        for start in range(0, len(order), rows):
            batch = order[start : start + rows]
            scored = _score_batch(model, [pieces[index] for index in batch], pad_id(tokenizer))
            scores |= dict(zip(batch, scored, strict=True))
    return [scores[index] for index in range(len(pieces))]


def split(
    tokenizer: PreTrainedTokenizerBase, prompt: str, options: Sequence[str], special_tokens: bool
) -> Pieces:
    """Tokens of the prompt, and what is left of prompt + option after so many tokens.

    Raises:
        UserError: An option adds no token.
    """
    whole = [prompt, *(prompt + option for option in options)]
    ids = tokenizer(whole, add_special_tokens=special_tokens)["input_ids"]
    first, rest = list(ids[0]), [list(one)[len(ids[0]) :] for one in ids[1:]]
    if not first or not all(rest):
        raise UserError(f"A prompt or an option has no tokens: {prompt[-80:]!r} {list(options)}")
    return Pieces(first, rest)


def _check_fit(model: PreTrainedModel, pieces: Sequence[Pieces]) -> None:
    room = getattr(model.config, "max_position_embeddings", None)
    for piece in pieces:
        needed = len(piece.prompt) + max(map(len, piece.options)) - 1
        if room is not None and needed > room:
            raise UserError(
                f"A prompt with its options has {needed} tokens; the model's context holds {room}",
                remedy="leave the item out, or take a model with a longer context",
            )


def _score_batch(
    model: PreTrainedModel, pieces: Sequence[Pieces], pad: int
) -> list[list[CompletionScore]]:
    """One batch, together or, on a CPU where the prompts have little in common, side by side."""
    apart = model.device.type == "cpu" and len(pieces) > 1
    if apart and not shared_length([piece.prompt for piece in pieces]):
        return side_by_side(lambda piece: _score(model, [piece], pad)[0], pieces)
    return _score(model, pieces, pad)


def _score(
    model: PreTrainedModel, pieces: Sequence[Pieces], pad: int
) -> list[list[CompletionScore]]:
    """Prompts, then what options have beyond their first token."""
    longer = any(len(option) > 1 for piece in pieces for option in piece.options)
    following, cache, width = _read(model, [piece.prompt for piece in pieces], pad, keep=longer)
    sums = [
        [float(row[option[0]]) for option in piece.options]
        for row, piece in zip(following, pieces, strict=True)
    ]
    if longer:
        where = [
            (row, number)
            for row, piece in enumerate(pieces)
            for number, option in enumerate(piece.options)
            if len(option) > 1
        ]
        tails = [pieces[row].options[number] for row, number in where]
        starts = [len(pieces[row].prompt) for row, _ in where]
        cache.batch_select_indices(torch.tensor([row for row, _ in where], device=model.device))
        for (row, number), rest in zip(
            where, _continue(model, cache, width, starts, tails, pad), strict=True
        ):
            sums[row][number] += rest
    return [
        [CompletionScore(total, len(option)) for total, option in zip(row, piece.options)]  # noqa: B905
        for row, piece in zip(sums, pieces, strict=True)
    ]


def _read(
    model: PreTrainedModel, prompts: Sequence[list[int]], pad: int, *, keep: bool
) -> tuple[torch.Tensor, Any, int]:
    """Log-probabilities (rows, vocabulary) of what follows each prompt; the cache and its width.

    Rows are padded on the right: causal attention needs no mask then, and takes its fast path.
    """
    from transformers import DynamicCache

    shared = shared_length(prompts)
    cache = DynamicCache(config=model.config) if keep or shared else None
    if shared:
        model(
            input_ids=torch.tensor([prompts[0][:shared]], device=model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        assert cache is not None
        cache.batch_repeat_interleave(len(prompts))
    rests = [prompt[shared:] for prompt in prompts]
    last = torch.tensor([len(rest) - 1 for rest in rests], device=model.device)
    wanted, place = last.unique(return_inverse=True)
    logits = model(
        input_ids=_right_padded(rests, pad, model.device),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=wanted,
    ).logits  # (rows, distinct lengths, vocabulary)
    chosen = logits[torch.arange(len(rests), device=logits.device), place]
    return chosen.float().log_softmax(-1), cache, shared + max(map(len, rests))


def _continue(
    model: PreTrainedModel,
    cache: Any,
    width: int,
    starts: Sequence[int],
    options: Sequence[list[int]],
    pad: int,
) -> list[float]:
    """Log-probability of each option from its second token on, after the cached prompts."""
    device = model.device
    read = _right_padded([option[:-1] for option in options], pad, device)
    start = torch.tensor(starts, device=device)[:, None]
    seen = torch.arange(width, device=device)[None] < start  # padding between prompt and option
    mask = torch.cat([seen.long(), torch.ones_like(read)], 1)
    logits = model(
        input_ids=read,
        attention_mask=mask,
        position_ids=start + torch.arange(read.shape[1], device=device),
        past_key_values=cache,
        use_cache=True,
    ).logits
    sums = []
    for row, option in zip(logits, options, strict=True):
        predicted = row[: len(option) - 1].float().log_softmax(-1)
        target = torch.tensor(option[1:], device=device)
        sums.append(float(predicted.gather(1, target[:, None]).sum()))
    return sums


def shared_length(prompts: Sequence[list[int]]) -> int:
    """Tokens that all prompts begin with, one less than the shortest; 0 if too few to matter.

    >>> shared_length([[1] * 40 + [2], [1] * 40 + [3, 4]]), shared_length([[1, 2], [1, 3]])
    (40, 0)
    """
    first, last = min(prompts), max(prompts)  # in dictionary order all others lie between them
    differ = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    shared = min(next(differ, len(first)), min(map(len, prompts)) - 1)
    return shared if len(prompts) > 1 and shared >= WORTH_SHARING else 0


def _right_padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)
