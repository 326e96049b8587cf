"""A prediction's Markdown taken apart: tables, formulas, code and paragraphs with their places.

What was taken out is blanked with as many spaces, so that later places stay valid; the order of the
steps therefore decides what a character belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from primum.benchmarks.omnidocbench.pipe_tables import pipe_rows, pipe_tables_as_html

IMAGE = re.compile(r"!\[.*?\]\(.*?\)")
MATH = re.compile(r"\$\$(.*?)\$\$|\\\[(.*?)\\\]|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
DOLLARS = re.compile(r"\$\$(.*?)\$\$|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
LATEX_TABLE = re.compile(r"\\begin{table}(.*?)\\end{table}", re.DOTALL)
HTML_TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
CODE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
HEADINGS = (
    (re.compile(r"\\title\{(.*?)\}"), r"\1"),
    (re.compile(r"\\title\s*\{\s*(.*?)\s*\}", re.DOTALL), r"\1"),
    (re.compile(r"\\text\s*\{\s*(.*?)\s*\}", re.DOTALL), r"\1"),
    (re.compile(r"\\section\*?\{(.*?)\}"), r"\1"),
    (re.compile(r"\\section\*?\{\s*(.*?)\s*\}", re.DOTALL), r"\1"),
)

Kind = Literal["text", "formula", "table", "latex_table"]


@dataclass(frozen=True)
class Element:
    """A piece of a prediction.

    Attributes:
        kind: What it was taken for.
        start: Its place, in characters; only the order of places means anything.
        content: Text, LaTeX or HTML.
        inline: A formula inside a paragraph: the paragraph keeps it, and it may still be what
            the annotators took for a displayed one.
    """

    kind: Kind
    start: int
    content: str
    inline: bool = False


def elements_of(markdown: str, *, version: str = "1.5", compat: bool = True) -> list[Element]:
    """Everything a prediction holds, in the order of the page.

    Args:
        markdown: The prediction.
        version: The protocol's, `1.0` or `1.5`.
        compat: Read pipe tables and the places of paragraphs as the published scorer does.
    """
    found: list[Element] = []
    text = tidied(markdown, version)
    for start, end in latex_tables(text):
        found.append(Element("latex_table", start, text[start:end]))
        text = blanked(text, start, end)
    for start, end in nested(text, r"<table(?:[^>]*)>", "</table>", len("</table>")):
        found.append(Element("table", start, text[start:end]))
        text = blanked(text, start, end)
    for match in MATH.finditer(text):
        formula, displayed = formula_of(match[0], version)
        found.append(Element("formula", match.start(), formula, not displayed))
        if displayed:
            text = blanked(text, match.start(), match.end())
    if len(pipe_rows(text)) >= 2:
        text = pipe_tables_as_html(text, compat=compat)
        for match in HTML_TABLE.finditer(text):
            found.append(Element("table", match.start(), match[0].strip()))
            text = blanked(text, match.start(), match.end())
    for match in CODE.finditer(text):
        found.append(Element("text", match.start(), match[2].strip()))
        text = blanked(text, match.start(), match.end())
    for pattern, kept in HEADINGS:
        text = pattern.sub(kept, text)
    found += paragraphs(text, compat=compat)
    return sorted(found, key=lambda element: element.start)


def tidied(markdown: str, version: str) -> str:
    """Without images, fences around the whole and long runs of one symbol."""
    text = IMAGE.sub("", markdown)
    for language in ("markdown",) if version == "1.0" else ("markdown", "html", "latex"):
        text = re.sub(rf"^```{language}\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"```\n?$", "", text, flags=re.MULTILINE)
    text = re.sub(r"_{4,}", "____", text)
    text = re.sub(r" {4,}", "    ", text)
    if version == "1.0":
        return re.sub(r"([^a-zA-Z0-9])\1{10,}", r"\1\1\1\1", text)
    return re.sub(r"</?(?:html|body)>", "", text)


def blanked(text: str, start: int, end: int) -> str:
    """The text with spaces from `start` to `end`."""
    return text[:start] + " " * (end - start) + text[end:]


def latex_tables(text: str) -> list[tuple[int, int]]:
    """Where `table` environments lie, and `tabular` ones outside them."""
    found = []
    for match in LATEX_TABLE.finditer(text):
        found.append(match.span())
        text = blanked(text, *match.span())
    found += nested(text, r"\\begin{tabular}", r"\\end{tabular}", len(r"\\end{tabular}"))
    return sorted(found, key=lambda span: span[0])


def nested(text: str, opening: str, closing: str, width: int) -> list[tuple[int, int]]:
    """Outermost spans between an opening and its closing pattern.

    An opening that is never closed is given up, and what follows it is searched again.

    Args:
        text: What is searched.
        opening, closing: Regular expressions.
        width: Characters that a mark is taken to be long. The published scorer takes the length
            of the pattern, which for LaTeX is one more than that of what it finds.
    """
    begin, end = re.compile(opening), re.compile(closing)
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    at = 0
    while at < len(text):
        first, last = begin.search(text, at), end.search(text, at)
        if first is None and last is None:
            break
        if first is not None and (last is None or first.start() < last.start()):
            opened.append(first.start())
            at = first.start() + width
            continue
        assert last is not None
        if opened:
            start = opened.pop()
            if not opened:
                found.append((start, min(last.start() + width, len(text))))
        at = last.start() + width
    if opened:
        rest = opened[0] + len(opening)
        found += [
            (start + rest, stop + rest)
            for start, stop in nested(text[rest:], opening, closing, width)
        ]
    return found


def formula_of(matched: str, version: str) -> tuple[str, bool]:
    """A formula between `\\[` and `\\]`, and whether it stood on its own."""
    line = "".join(matched.split()) if version == "1.0" else " ".join(matched.strip().split("\n"))
    dollars = DOLLARS.search(line)
    if dollars is None:
        return line, True
    displayed = bool(dollars[1])

    def bracketed(match: re.Match[str]) -> str:
        inside = match[1] if displayed else (match[2] or "") + (match[3] or "")
        return rf"\[{inside or ''}\]"

    return DOLLARS.sub(bracketed, line), displayed


def paragraphs(text: str, *, compat: bool = True) -> Iterator[Element]:
    """What is left, parted at blank lines, or at every line where there is no blank one."""
    separator = "\n\n" if "\n\n" in text else "\n"
    at = 0
    for part in text.split(separator):
        start = at
        # the published scorer's places leave the separators out
        at += len(part) + (0 if compat else len(separator))
        content = "\n".join(line.strip() for line in part.split("\n") if line.strip())
        if not content:
            continue
        if content.startswith("<table") and content.endswith("</table>"):
            yield Element("table", start, content)
        elif content.startswith("$") and content.endswith("$"):
            if content.replace("$", "").strip():
                yield Element("formula", start, content)
        else:
            yield Element("text", start, content)
