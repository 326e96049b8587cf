"""A conversation becomes token ids, and a mask of exactly the tokens that are to be learned.

The mask is found from the rendered text, never from lengths of prefixes: many templates render
the same turn differently once another follows (Qwen3 drops earlier thinking, Gemma merges the
system turn, most trim). Where the template marks its assistant turns with `{% generation %}`, the
marks say which stretch is which turn. Elsewhere the conversation is rendered a second time with
unique signs in each assistant text; if taking the signs out gives the first rendering back, their
places are certain. What cannot be verified is refused.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from primum.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]
Supervise = Literal["last", "all"]
Thinking = Literal["keep", "drop"]

THINKING = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
MARKED = re.compile(r"\{%-?\s*generation\b")
SIGNS = range(0xF0000, 0xFFFFE)  # characters Unicode keeps for private use
LONGEST_OPENING = 60  # characters a template may put before thinking, such as `<think>`
OWN_TEMPLATE = "give a corrected template with model.chat_template=FILE.jinja"


@dataclass(frozen=True)
class Encoded:
    """A templated conversation as token ids; `loss_mask` is True where a token is learned."""

    input_ids: list[int]
    loss_mask: list[bool]


class TooLong(UserError):
    """A conversation does not fit, and cutting it would lose its end of turn."""


@dataclass(frozen=True)
class Span:
    """Where a learned stretch lies in the rendered text, and the token it ends with."""

    start: int
    end: int
    closing: str


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
    text, spans = _locate(tokenizer, turns, chosen, _switch(thinking))
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
    return _render(tokenizer, turns, add_generation_prompt=True, **_switch(thinking))


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token with which the template ends an assistant turn.

    Raises:
        UserError: It ends the turn with no token of its own, so no model could learn to stop.
    """
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    _, (span,) = _locate(tokenizer, turns, [1], {})
    return tokenizer.get_vocab()[span.closing]


def template_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the chat template's text."""
    return hashlib.sha256(_template(tokenizer).encode()).hexdigest()


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


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except (ValueError, AttributeError):
        raise UserError(
            f"The tokenizer of `{tokenizer.name_or_path}` has no chat template",
            remedy="take the instruct version of the model, or " + OWN_TEMPLATE,
        ) from None


def _switch(thinking: Thinking) -> dict[str, Any]:
    """What Qwen3-like templates read; others ignore it."""
    return {} if thinking == "keep" else {"enable_thinking": False}


def _render(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]], **options: Any) -> str:
    import jinja2

    _template(tokenizer)
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **options))
    except (jinja2.TemplateError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"The chat template of `{tokenizer.name_or_path}` refuses this conversation "
            f"({', '.join(turn['role'] for turn in turns)}): {error}",
            remedy="bring the turns into the order it wants, or " + OWN_TEMPLATE,
        ) from None


def _locate(
    tokenizer: PreTrainedTokenizerBase,
    turns: list[dict[str, Any]],
    chosen: list[int],
    options: dict[str, Any],
) -> tuple[str, list[Span]]:
    """The rendered conversation and the learned stretch of each chosen turn."""
    thoughtful = [i for i in chosen if "reasoning_content" in turns[i]]
    candidates = [turns, _inlined(turns, chosen)] if thoughtful else [turns]
    missing: set[int] = set()
    for candidate in candidates:
        text = _render(tokenizer, candidate, **options)
        places = _by_marks(tokenizer, candidate, text, options)
        if places is None:
            places = _by_signs(tokenizer, candidate, chosen, text, options)
        if places is None:
            continue
        missing = {i for i in chosen if "reasoning_content" in candidate[i]} & {
            i for i in chosen if places[i].thought is None
        }
        if not missing:
            openings = _openings(tokenizer, options)
            return text, [_span(tokenizer, text, places[i], openings) for i in chosen]
        if chosen[-1] not in missing:
            break  # it knows thinking, and drops that of earlier turns by design
    if missing or thoughtful:
        turn = min(missing or thoughtful) + 1
        raise UserError(
            f"The chat template of `{tokenizer.name_or_path}` drops the thinking of message {turn},"
            " which thinking=keep asks to learn",
            remedy="supervise=last where only earlier turns lose it, or thinking=drop, or "
            + OWN_TEMPLATE,
        )
    raise UserError(
        f"The chat template of `{tokenizer.name_or_path}` changes the assistant's text, so which "
        "tokens carry loss cannot be verified",
        remedy="put {% generation %} and {% endgeneration %} around the assistant's text and its "
        "end-of-turn token: " + OWN_TEMPLATE,
    )


@dataclass(frozen=True)
class Place:
    """Where a turn's text lies in the rendered conversation, without its outer white space."""

    content: tuple[int, int]
    thought: int | None = None
    marked: tuple[int, int] | None = None  # what the template's own marks enclose


def _inlined(turns: list[dict[str, Any]], chosen: list[int]) -> list[dict[str, Any]]:
    """The chosen turns' thinking written into their content, for templates that know no other."""
    inlined = [dict(turn) for turn in turns]
    for i in chosen:
        thought = inlined[i].pop("reasoning_content", None)
        if thought is not None:
            content = inlined[i]["content"].lstrip("\n")
            thought = thought.strip("\n")
            inlined[i]["content"] = f"<think>\n{thought}\n</think>\n\n{content}"
    return inlined


def _by_marks(
    tokenizer: PreTrainedTokenizerBase,
    turns: list[dict[str, Any]],
    text: str,
    options: dict[str, Any],
) -> dict[int, Place] | None:
    """Each assistant turn's place from `{% generation %}`; None without usable marks."""
    template = _template(tokenizer)
    if not MARKED.search(template):
        return None
    from transformers.utils.chat_template_utils import render_jinja_template

    found: Any = render_jinja_template(
        [turns],
        chat_template=template,
        return_assistant_tokens_mask=True,
        **{**tokenizer.special_tokens_map, **options},
    )
    (rendered,), (marks,) = found
    assistants = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    if rendered != text or len(marks) != len(assistants):
        return None
    places = {}
    for i, (start, end) in zip(assistants, marks, strict=True):
        content = turns[i]["content"].strip()
        at = text.rfind(content, start, end)
        if at < 0:
            return None
        thought = turns[i].get("reasoning_content", "").strip()
        thought_at = text.find(thought, start, at) if thought else -1
        places[i] = Place(
            content=(at, at + len(content)),
            thought=thought_at if thought_at >= 0 else None,
            marked=(start, end),
        )
    return places


def _by_signs(
    tokenizer: PreTrainedTokenizerBase,
    turns: list[dict[str, Any]],
    chosen: list[int],
    text: str,
    options: dict[str, Any],
) -> dict[int, Place] | None:
    """Each chosen turn's place from a second rendering with signs in it; None if not certain."""
    unused = (chr(code) for code in SIGNS if chr(code) not in text)
    signed = [dict(turn) for turn in turns]
    signs: dict[str, tuple[int, str, int]] = {}
    for i in chosen:
        for field in ("content", "reasoning_content"):
            if field in signed[i]:
                opening, closing = next(unused), next(unused)
                signs[opening], signs[closing] = (i, field, 0), (i, field, 1)
                signed[i][field] = _within(signed[i][field], opening, closing)
    found: dict[tuple[int, str, int], int] = {}
    plain: list[str] = []
    for character in _render(tokenizer, signed, **options):
        if character not in signs:
            plain.append(character)
        elif signs[character] in found:
            return None  # rendered twice: which one is it?
        else:
            found[signs[character]] = len(plain)
    if "".join(plain) != text:
        return None
    places = {}
    for i in chosen:
        start, end = found.get((i, "content", 0)), found.get((i, "content", 1))
        content = turns[i]["content"].strip()
        if start is None or end is None or text[start:end] != content:
            return None
        places[i] = Place(content=(start, end), thought=found.get((i, "reasoning_content", 0)))
    return places


def _within(text: str, opening: str, closing: str) -> str:
    """Signs inside the outer white space, so that a template that trims does the same as before."""
    core = text.strip()
    start = text.index(core)
    return text[:start] + opening + core + closing + text[start + len(core) :]


def _openings(tokenizer: PreTrainedTokenizerBase, options: dict[str, Any]) -> list[str]:
    """What the template writes before the model takes over, with thinking on and off."""
    question = [{"role": "user", "content": "question"}]
    found = []
    for switch in ({"enable_thinking": True}, {"enable_thinking": False}):
        bare = _render(tokenizer, question, **{**options, **switch})
        opened = _render(tokenizer, question, add_generation_prompt=True, **{**options, **switch})
        if opened != bare and opened.startswith(bare):
            found.append(opened.removeprefix(bare))
    return found


def _span(tokenizer: PreTrainedTokenizerBase, text: str, place: Place, openings: list[str]) -> Span:
    """From where the model takes over to the end of the token that closes its turn."""
    core, content_end = place.content
    core = core if place.thought is None else place.thought
    start = core
    for opening in openings:
        found = text.rfind(opening, 0, core)
        if found < 0:
            continue
        between = text[found + len(opening) : core]
        if not between.strip() or (place.thought is not None and len(between) <= LONGEST_OPENING):
            start = min(start, found + len(opening))
    closing = _closing(tokenizer, text[content_end:])
    end = content_end + text[content_end:].index(closing) + len(closing)
    if place.marked is not None:
        if end > place.marked[1]:
            raise UserError(
                f"The chat template of `{tokenizer.name_or_path}` leaves the end-of-turn token "
                f"{closing} outside its generation marks, so the model would not learn to stop",
                remedy="move {% endgeneration %} behind it: " + OWN_TEMPLATE,
            )
        start = max(start, place.marked[0])
    return Span(start, end, closing)


def _closing(tokenizer: PreTrainedTokenizerBase, rest: str) -> str:
    """The token right after an assistant's text."""
    tokens = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    following = rest.lstrip()
    for token in sorted(tokens, key=len, reverse=True):
        if token and following.startswith(token):
            return token
    raise UserError(
        f"The chat template of `{tokenizer.name_or_path}` does not end the assistant's turn with "
        f"a token of its own (after the answer comes {rest[:20]!r}), so the model would never "
        "learn to stop",
        remedy="put {{ eos_token }} after the assistant's text: " + OWN_TEMPLATE,
    )


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
