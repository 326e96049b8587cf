"""What a page is made of before anybody knows where it will stand."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from random import Random
from typing import Literal

from primum.parsing.synthesis import words
from primum.parsing.synthesis.formulas import formula

Kind = Literal["heading", "paragraph", "list", "table", "formula"]


@dataclass(frozen=True)
class Block:
    """A block and its truth.

    Attributes:
        kind: What it is.
        text: Of a heading, paragraph or formula (LaTeX).
        items: Of a list.
        rows: Of a table, the first its head.
    """

    kind: Kind
    text: str = ""
    items: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def markdown(self) -> str:
        """The block as a parser should write it."""
        if self.kind == "heading":
            return f"# {self.text}"
        if self.kind == "list":
            return "\n".join(f"- {item}" for item in self.items)
        if self.kind == "table":
            return self.html
        return f"$${self.text}$$" if self.kind == "formula" else self.text

    @property
    def html(self) -> str:
        """A table's rows."""
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell, quote=False)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return f"<table>{rows}</table>"


def make_block(kind: Kind, luck: Random, characters: int, strange: float) -> Block:
    """A block of a kind; `characters` is how much text a paragraph, or a list in all, may have."""
    if kind == "heading":
        return Block(kind, words.heading(luck, strange)[: max(8, characters)].strip())
    if kind == "list":
        count = luck.randint(2, 4)
        each = max(8, characters // count)
        return Block(kind, items=tuple(words.text(luck, each, strange) for _ in range(count)))
    if kind == "table":
        rows, columns = luck.randint(2, 4), luck.randint(2, 4)
        return Block(
            kind,
            rows=tuple(
                tuple(words.cell(luck, strange) for _ in range(columns)) for _ in range(rows)
            ),
        )
    if kind == "formula":
        return Block(kind, formula(luck))
    return Block(kind, words.text(luck, characters, strange))
