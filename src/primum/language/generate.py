"""Greedy answers in batches, and how probable a model finds given answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from primum.errors import UserError
from primum.language.batches import pad_id
from primum.language.chat import Message, Thinking, encode, end_of_turn, render_prompt
from primum.language.formats import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Chat = Conversation | Sequence[Message]


@dataclass(frozen=True)
class Generated:
    """One answer.

    Args:
        text: The answer, without its end-of-turn token.
        token_ids: Its tokens, the end-of-turn token included.
        finish: `stop` if the model ended its turn, `length` if it was cut.
        seconds: Its share of its batch's time.
    """

    text: str
    token_ids: tuple[int, ...]
    finish: Literal["stop", "length"]
    seconds: float


@dataclass(frozen=True)
class CompletionScore:
    """Log-probability (nats) of an answer with its end-of-turn token, and its token count."""

    sum_logprob: float
    num_tokens: int


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the generation config's, the tokenizer's and the template's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, (list, tuple)) else [configured]
    ids = {*several, tokenizer.eos_token_id, end_of_turn(tokenizer)}
    return sorted(one for one in ids if one is not None)


@contextmanager
def answering(model: PreTrainedModel) -> Iterator[None]:
    """No gradients and no dropout; training mode comes back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Chat],
    *,
    max_new_tokens: int,
    batch_size: int = 8,
    temperature: float = 0.0,
    seed: int = 0,
    thinking: Thinking = "keep",
    progress: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Answer each conversation; a trailing assistant turn is left out of its prompt.

    Prompts of like length share a batch, and answers that are finished leave it. Each answer is
    sampled from its own generator, so that neither its place nor the batch size changes what is
    drawn (in float32; in bf16 rounding differs with the batch and can tip a near tie).

    Args:
        temperature: 0 takes the likeliest token each time.
        seed: With the conversation's index, what the samples follow from.
        thinking: As in `render_prompt`.
        progress: Called with the number of answers that a batch has just finished.

    Returns:
        One answer a conversation, in the order given.
    """
    prompts = [
        list(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (
            render_prompt(tokenizer, _messages(chat), thinking=thinking) for chat in conversations
        )
    ]
    stops = torch.tensor(stop_ids(model, tokenizer), device=model.device)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
    answers: dict[int, Generated] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        began = time.perf_counter()
        generators = [_generator(seed, index, model.device) for index in batch]
        with answering(model):
            written = continuations(
                model,
                [prompts[index] for index in batch],
                stops,
                pad_id(tokenizer),
                max_new_tokens,
                temperature,
                generators,
            )
        seconds = (time.perf_counter() - began) / len(batch)
        stopping = set(stops.tolist())
        for index, ids in zip(batch, written, strict=True):
            stopped = bool(ids) and ids[-1] in stopping
            answers[index] = Generated(
                text=str(
                    tokenizer.decode(
                        ids[:-1] if stopped else ids,
                        skip_special_tokens=True,
                        clean_up_tokenization_spaces=False,
                    )
                ),
                token_ids=tuple(ids),
                finish="stop" if stopped else "length",
                seconds=seconds,
            )
        if progress is not None:
            progress(len(batch))
    return [answers[index] for index in range(len(prompts))]


def continuations(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    stops: torch.Tensor,
    pad: int,
    max_new_tokens: int,
    temperature: float,
    generators: Sequence[torch.Generator],
    anybody: Callable[[bool], bool] | None = None,
) -> list[list[int]]:
    """Token ids that follow each prompt, the stop token included.

    Args:
        stops: Token ids that end an answer.
        generators: Of each prompt, what its samples are drawn from.
        anybody: Asked before each token whether any rank still writes; where ranks must call the
            model equally often, as under sharded parameters, a rank that is done goes along.
    """
    from transformers import DynamicCache

    tokens, mask = _left_padded(prompts, pad, model.device)  # (rows, prompt length)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    written: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts), device=model.device)  # which prompt each live row answers
    idle = False
    for _ in range(max_new_tokens):
        if anybody is not None and not anybody(not idle):
            break
        if idle:
            model(input_ids=tokens[:1, :1], use_cache=False)
            continue
        logits = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if temperature > 0:
            chances = (logits.float() / temperature).softmax(-1)
            drawn = [
                torch.multinomial(one, 1, generator=generators[row])
                for one, row in zip(chances, rows.tolist(), strict=True)
            ]
            following = torch.cat(drawn)
        else:
            following = logits.argmax(-1)
        for row, token in zip(rows.tolist(), following.tolist(), strict=True):
            written[row].append(token)
        live = ~torch.isin(following, stops)
        if not live.all():
            if not live.any():
                if anybody is None:
                    break
                idle = True
                continue
            kept = live.nonzero().flatten()
            cache.batch_select_indices(kept)
            rows, following, mask, positions = (
                one[kept] for one in (rows, following, mask, positions)
            )
        tokens = following[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        positions = positions[:, -1:] + 1
    return written


def completion_logprobs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Chat],
    batch_size: int,
    *,
    thinking: Thinking = "keep",
    progress: Callable[[int], None] | None = None,
) -> list[CompletionScore]:
    """How probable the model finds each conversation's last assistant turn, end of turn included.

    Logits exist only for the completions: rows are padded on the left, so these end together, and
    answers of like length share a batch.
    """
    encoded = [
        encode(tokenizer, _messages(chat), supervise="last", thinking=thinking)
        for chat in conversations
    ]
    # What follows the turn (a line break, say) cannot change it: leave it out.
    ends = [len(one.loss_mask) - one.loss_mask[::-1].index(True) for one in encoded]
    sizes = [sum(one.loss_mask) for one in encoded]
    order = sorted(range(len(encoded)), key=lambda index: (sizes[index], ends[index]), reverse=True)
    scores: dict[int, CompletionScore] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        tokens, mask = _left_padded(
            [encoded[index].input_ids[: ends[index]] for index in batch],
            pad_id(tokenizer),
            model.device,
        )
        longest = max(sizes[index] for index in batch)
        with answering(model):
            logits = model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=longest + 1,
            ).logits[:, :-1]  # (rows, longest, vocabulary): the last predicts what is not there
            for row, index in enumerate(batch):
                size = sizes[index]
                nll = torch.nn.functional.cross_entropy(
                    logits[row, longest - size :].float(), tokens[row, -size:], reduction="sum"
                )
                scores[index] = CompletionScore(-float(nll), size)
        if progress is not None:
            progress(len(batch))
    return [scores[index] for index in range(len(encoded))]


def _messages(chat: Chat) -> Sequence[Message]:
    return chat.messages if isinstance(chat, Conversation) else chat


def _left_padded(
    rows: Sequence[Sequence[int]], pad: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(row) for row in rows)
    if min(len(row) for row in rows) == 0:
        raise UserError("A prompt has no tokens")
    tokens = torch.full((len(rows), longest), pad, device=device)
    mask = torch.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, longest - len(row) :] = torch.tensor(row, device=device)
        mask[number, longest - len(row) :] = 1
    return tokens, mask


def _generator(seed: int, index: int, device: Any) -> torch.Generator:
    return torch.Generator(device=device).manual_seed((seed * 1_000_003 + index) % 2**63)
