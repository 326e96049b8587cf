"""A look at what a model is taught: each token of a conversation, coloured by whether it counts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from primum.errors import UserError
from primum.files import atomic_write
from primum.language.chat import (
    Encoded,
    Supervise,
    Thinking,
    TooLong,
    encode,
    end_of_turn,
    template_sha256,
)
from primum.language.formats import Conversation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

LEARNED, ENDING, CONTEXT = "bold black on green", "bold black on yellow", "dim"


@dataclass(frozen=True)
class Preview:
    """One previewed row: pieces of text with their style, and what was counted."""

    conversation: Conversation
    encoded: Encoded
    pieces: tuple[tuple[str, str], ...]
    endings: int  # end-of-turn tokens that carry loss
    endings_without_loss: int  # learned stretches that stop short of one


def preview(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    *,
    supervise: Supervise = "last",
    thinking: Thinking = "keep",
    max_length: int | None = None,
) -> list[Preview]:
    """Encode conversations and cut them into pieces of readable text, by what carries loss.

    Raises:
        UserError: A row cannot be encoded; the message names file and row.
    """
    ending = end_of_turn(tokenizer)
    previews = []
    for one in conversations:
        try:
            encoded = encode(
                tokenizer,
                one.messages,
                supervise=supervise,
                thinking=thinking,
                max_length=max_length,
            )
        except UserError as error:
            remedy = error.remedy
            if isinstance(error, TooLong):
                remedy = "raise --max-length; training leaves such rows out and counts them"
            raise UserError(error.problem, file=one.file, row=one.row, remedy=remedy) from error
        previews.append(_preview(tokenizer, one, encoded, ending))
    return previews


def show(
    previews: Sequence[Preview],
    tokenizer: PreTrainedTokenizerBase,
    *,
    console: Console | None = None,
    html: str | Path | None = None,
) -> bool:
    """Print the previews, a legend and the counts; True if every learned turn learns to end.

    Args:
        html: Also write the same page there, self-contained.
    """
    from rich.console import Console

    _print(previews, tokenizer, console or Console(highlight=False, soft_wrap=True))
    if html is not None:
        page = Console(
            highlight=False,
            soft_wrap=True,
            record=True,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
            width=100,
        )
        _print(previews, tokenizer, page)
        atomic_write(html, page.export_html(inline_styles=True))
    return not any(one.endings_without_loss for one in previews)


def _print(
    previews: Sequence[Preview], tokenizer: PreTrainedTokenizerBase, console: Console
) -> None:
    from rich.text import Text

    plain = not console.is_terminal or console.no_color  # brackets say what colours would
    for one in previews:
        count, learned = len(one.encoded.input_ids), sum(one.encoded.loss_mask)
        console.rule(f"{Path(one.conversation.file).name}, row {one.conversation.row}", style="dim")
        console.print(_coloured(one, plain))
        console.print(Text(f"{learned} of {count} tokens carry loss\n", style="italic"))
    legend = Text("legend: ")
    legend.append("⟦learned⟧" if plain else " learned ", style=LEARNED)
    legend.append(" ")
    legend.append("⟦end of turn, learned⟧" if plain else " end of turn, learned ", style=ENDING)
    legend.append("  read only, no loss", style=CONTEXT)
    console.print(legend)
    tokens = sum(len(one.encoded.input_ids) for one in previews)
    learned = sum(sum(one.encoded.loss_mask) for one in previews)
    share = 100 * learned / tokens if tokens else 0.0
    console.print(
        Text(
            f"{len(previews)} rows, {tokens} tokens, {learned} learned ({share:.0f} %); "
            f"template {template_sha256(tokenizer)[:12]} of {tokenizer.name_or_path}"
        )
    )
    endings = sum(one.endings for one in previews)
    short = sum(one.endings_without_loss for one in previews)
    if short:
        verdict = f"{short} learned turns stop short of the end-of-turn token: the model would "
        console.print(Text(verdict + "never learn to stop", style="bold red"))
    else:
        verdict = f"the end-of-turn token is learned in each of {endings} learned turns"
        console.print(Text(verdict, style="green"))


def _preview(
    tokenizer: PreTrainedTokenizerBase, one: Conversation, encoded: Encoded, ending: int
) -> Preview:
    pieces: list[tuple[str, str]] = []
    waiting: list[int] = []  # tokens that are only part of a character so far
    endings = short = 0
    following = [*encoded.loss_mask[1:], False]
    for token, learned, next_learned in zip(
        encoded.input_ids, encoded.loss_mask, following, strict=True
    ):
        closes = learned and token == ending
        if learned and not next_learned:
            endings, short = endings + closes, short + (not closes)
        waiting.append(token)
        text = str(tokenizer.decode(waiting, clean_up_tokenization_spaces=False))
        if text.endswith("�") and len(waiting) < 6 and learned == next_learned:
            continue
        waiting = []
        pieces.append((_visible(text), ENDING if closes else LEARNED if learned else CONTEXT))
    return Preview(one, encoded, tuple(pieces), endings, short)


def _visible(text: str) -> str:
    """Line breaks shown, and control characters disarmed."""
    shown = text.replace("\n", "⏎\n")
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in shown)


def _coloured(one: Preview, plain: bool) -> Text:
    from rich.text import Text

    text = Text()
    before = CONTEXT
    for piece, style in (*one.pieces, ("", CONTEXT)):
        if plain and (style == CONTEXT) != (before == CONTEXT):
            text.append("⟧" if style == CONTEXT else "⟦")
        text.append(piece, style=style)
        before = style
    return text
