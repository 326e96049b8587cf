"""A conversation becomes token ids, and a mask of exactly the tokens that are to be learned.

`primum.language.turns` says which stretches of the rendered text are learned; here they are found
again among the tokens, and verified by decoding.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from primum.errors import UserError
from primum.language.turns import Span, locate, render, template_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]
Supervise = Literal["last", "all"]
Thinking = Literal["keep", "drop"]

THINKING = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class Encoded:
    """A templated conversation as token ids; `loss_mask` is True where a token is learned."""

    input_ids: list[int]
    loss_mask: list[bool]


class TooLong(UserError):
    """A conversation does not fit, and cutting it would lose its end of turn."""


def encode(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    supervise: Supervise = "last",
    thinking: Thinking = "keep",
    max_length: int | None = None,
) -> Encoded:
    """Token ids of the whole templated conversation and which of them carry loss.

    Learned are the assistant's text of the chosen turns and the token that ends each turn; with
    `thinking="keep"` also the thinking that goes before (from `reasoning_content`, or written as
    `<think>...</think>` at the head of the content), with its tags. Messages after the last
    assistant turn are left out.

    Args:
        supervise: The `last` assistant turn or `all` of them.
        thinking: `keep` it, or `drop` it from every turn.
        max_length: Longest allowed number of tokens.

    Raises:
        TooLong: There are more tokens than `max_length`; nothing is ever cut off.
        UserError: There is nothing to learn, or the template does not say where a turn's text
            lies or ends; the message names the template and the remedy.
    """
    turns = _turns(messages, thinking)
    assistants = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    chosen = assistants if supervise == "all" else assistants[-1:]
    text, spans = locate(tokenizer, turns, chosen, _switch(thinking))
    input_ids, loss_mask = _tokenise(tokenizer, text, spans)
    if max_length is not None and len(input_ids) > max_length:
        raise TooLong(
            f"The conversation has {len(input_ids)} tokens, more than max_length={max_length}; "
            "cutting it would lose its end of turn",
            remedy="raise max_length, shorten the conversation, or leave it out",
        )
    return Encoded(input_ids, loss_mask)


def render_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    thinking: Thinking = "keep",
) -> str:
    """The text a model continues when it answers: the conversation and the opening of its turn.

    An assistant turn at the end is left out, as it is what the model is asked for. Templates that
    can switch thinking off (Qwen3) do so with `thinking="drop"`.
    """
    turns = [_plain(message, thinking) for message in messages]
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    if not turns:
        raise UserError("A prompt needs at least one message that is not the assistant's")
    return render(tokenizer, turns, add_generation_prompt=True, **_switch(thinking))


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token with which the template ends an assistant turn.

    Raises:
        UserError: It ends the turn with no token of its own, so no model could learn to stop.
    """
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    _, (span,) = locate(tokenizer, turns, [1], {})
    return tokenizer.get_vocab()[span.closing]


def template_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the chat template's text."""
    return hashlib.sha256(template_of(tokenizer).encode()).hexdigest()


def split_thinking(content: str) -> tuple[str, str]:
    """Thinking and answer of a text that may open with `<think>...</think>`.

    >>> split_thinking("<think>two and two</think>four")
    ('two and two', 'four')
    """
    match = THINKING.match(content)
    return (match[1].strip("\n"), content[match.end() :]) if match else ("", content)


def _turns(messages: Sequence[Message], thinking: Thinking) -> list[dict[str, Any]]:
    turns = [_plain(message, thinking) for message in messages]
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    if not turns:
        raise UserError(
            "The conversation has no assistant turn, so there is nothing to learn from it",
            remedy="leave it out, or check which column holds the answer",
        )
    return turns


def _plain(message: Message, thinking: Thinking) -> dict[str, Any]:
    if message.get("tool_calls"):
        raise UserError(
            "A message calls tools, which is not supported",
            remedy="leave tool calls out of the training data",
        )
    content, thought = message.get("content"), message.get("reasoning_content") or ""
    if not isinstance(content, str) or not isinstance(thought, str):
        raise UserError(f"A message's content is text, not {type(content).__name__}")
    turn: dict[str, Any] = {"role": message["role"], "content": content}
    if turn["role"] == "assistant":
        if not thought.strip():
            thought, turn["content"] = split_thinking(content)
        if not turn["content"].strip():
            raise UserError("An assistant's answer is empty", remedy="leave this row out")
        if thinking == "keep" and thought.strip():
            turn["reasoning_content"] = thought
    return turn


def _switch(thinking: Thinking) -> dict[str, Any]:
    """What Qwen3-like templates read; others ignore it."""
    return {} if thinking == "keep" else {"enable_thinking": False}


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span]
) -> tuple[list[int], list[bool]]:
    """Token ids of the text, and whether each lies in a span; verified by decoding."""
    found = _by_offsets(tokenizer, text, spans) or _by_pieces(tokenizer, text, spans)
    if found is None:
        raise UserError(
            f"The tokenizer of `{tokenizer.name_or_path}` does not give the assistant's text back, "
            "so which tokens carry loss cannot be verified",
            remedy="use the tokenizer the model was published with",
        )
    return found


def _by_offsets(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span]
) -> tuple[list[int], list[bool]] | None:
    """The whole text in one go; None if a token reaches across the edge of a span."""
    if not tokenizer.is_fast:
        return None
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(whole["input_ids"]), whole["offset_mapping"]
    mask = [False] * len(ids)
    for span in spans:
        inside = [
            k for k, (start, end) in enumerate(offsets)
            if start < end and start < span.end and end > span.start
        ]  # fmt: skip
        if not inside:
            return None
        first, last = inside[0], inside[-1]
        if offsets[first][0] < span.start or offsets[last][1] > span.end:
            return None
        if not _gives_back(tokenizer, ids[first : last + 1], text[span.start : span.end]):
            return None
        mask[first : last + 1] = [True] * (last + 1 - first)
    return ids, mask


def _by_pieces(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span]
) -> tuple[list[int], list[bool]] | None:
    """Prompt and answer tokenised apart, as they are when the model answers."""
    ids: list[int] = []
    mask: list[bool] = []
    done = 0
    for span in spans:
        for start, end, learned in ((done, span.start, False), (span.start, span.end, True)):
            piece = list(tokenizer(text[start:end], add_special_tokens=False)["input_ids"])
            if learned and not _gives_back(tokenizer, piece, text[start:end]):
                return None
            ids += piece
            mask += [learned] * len(piece)
        done = span.end
    rest = list(tokenizer(text[done:], add_special_tokens=False)["input_ids"])
    ids, mask = ids + rest, mask + [False] * len(rest)
    return (ids, mask) if _gives_back(tokenizer, ids, text) else None


def _gives_back(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> bool:
    """Whether the ids decode to the text, up to Unicode normalisation and outer white space."""
    decoded = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    return decoded == text or _normal(decoded) == _normal(text)


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()
