"""Where a chat template puts the assistant's text, and how it ends the turn.

The places are found from the rendered text, never from lengths of prefixes: many templates render
the same turn differently once another follows (Qwen3 drops earlier thinking, Gemma merges the
system turn, most trim). Where the template marks its assistant turns with `{% generation %}`, the
marks say which stretch is which turn. Elsewhere the conversation is rendered a second time with
unique signs in each assistant text; if taking the signs out gives the first rendering back, their
places are certain. What cannot be verified is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primum.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKED = re.compile(r"\{%-?\s*generation\b")
SIGNS = range(0xF0000, 0xFFFFE)  # characters Unicode keeps for private use
LONGEST_OPENING = 60  # characters a template may put before thinking, such as `<think>`
OWN_TEMPLATE = "give a corrected template with model.chat_template=FILE.jinja"


@dataclass(frozen=True)
class Span:
    """Where a learned stretch lies in the rendered text, and the token it ends with."""

    start: int
    end: int
    closing: str


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the chat template.

    Raises:
        UserError: The tokenizer has none.
    """
    try:
        return str(tokenizer.get_chat_template())
    except (ValueError, AttributeError):
        raise UserError(
            f"The tokenizer of `{tokenizer.name_or_path}` has no chat template",
            remedy="take the instruct version of the model, or " + OWN_TEMPLATE,
        ) from None


def render(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, Any]], **options: Any) -> str:
    """The conversation as text.

    Raises:
        UserError: The template refuses it.
    """
    import jinja2

    template_of(tokenizer)
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **options))
    except (jinja2.TemplateError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"The chat template of `{tokenizer.name_or_path}` refuses this conversation "
            f"({', '.join(turn['role'] for turn in turns)}): {error}",
            remedy="bring the turns into the order it wants, or " + OWN_TEMPLATE,
        ) from None


def locate(
    tokenizer: PreTrainedTokenizerBase,
    turns: list[dict[str, Any]],
    chosen: list[int],
    options: dict[str, Any],
) -> tuple[str, list[Span]]:
    """The rendered conversation and the learned stretch of each chosen turn.

    Args:
        chosen: Which of the turns are learned, by index.
        options: What the template is given besides, such as `enable_thinking`.

    Raises:
        UserError: A stretch or its end cannot be told for certain.
    """
    thoughtful = [i for i in chosen if "reasoning_content" in turns[i]]
    candidates = [turns, _inlined(turns, chosen)] if thoughtful else [turns]
    missing: set[int] = set()
    for candidate in candidates:
        text = render(tokenizer, candidate, **options)
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
    template = template_of(tokenizer)
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
    for character in render(tokenizer, signed, **options):
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
        bare = render(tokenizer, question, **{**options, **switch})
        opened = render(tokenizer, question, add_generation_prompt=True, **{**options, **switch})
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
