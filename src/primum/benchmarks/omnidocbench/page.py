"""One page's prediction beside its annotations: everything that the scores of the page rest on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from primum.benchmarks.omnidocbench.annotations import (
    FORMULA,
    IGNORED,
    TABLE,
    TEXT,
    Block,
    blocks_of,
    in_order,
)
from primum.benchmarks.omnidocbench.extraction import Element, elements_of
from primum.benchmarks.omnidocbench.latex_tables import latex_table_as_html
from primum.benchmarks.omnidocbench.lines import Guess, Rules, Truth, guesses_of, truths_of
from primum.benchmarks.omnidocbench.normalising import normal_table, plain, words
from primum.benchmarks.omnidocbench.pairs import Pair
from primum.benchmarks.omnidocbench.quick_match import quick_match
from primum.benchmarks.omnidocbench.simple_match import assign, simple_match


@dataclass(frozen=True)
class PageMatch:
    """What of a page's blocks was found where.

    Attributes:
        text, formulas, tables: Pairs by what they are scored as. A formula that was predicted as
            text is scored as text.
        orders: The places in the reading order of the text blocks that count.
        read: The same places in the order of the prediction; what was not found is missing.
    """

    text: list[Pair]
    formulas: list[Pair]
    tables: list[Pair]
    orders: list[float]
    read: list[float]


def match_page(page: Mapping[str, Any], markdown: str, rules: Rules) -> PageMatch:
    """Match a prediction to a page of OmniDocBench's annotations."""
    blocks = blocks_of(page, compat=rules.compat)
    elements = elements_of(markdown, version=rules.version, compat=rules.compat)
    tables, spare = match_tables(in_order(blocks, [TABLE]), elements, rules)
    prose = in_page_order([one for one in elements if one.kind in ("text", "formula")])
    if rules.version == "1.0":
        text = match(in_order(blocks, TEXT), [one for one in prose if one.kind == "text"], rules)
        formulas = match(
            in_order(blocks, [FORMULA]), [one for one in prose if one.kind == "formula"], rules
        )
        orders, read = reading_order(text)
        return PageMatch(text, formulas, tables, orders, read)
    pairs = match(in_order(blocks, [*TEXT, FORMULA]), [*prose, *spare], rules)
    text = [pair for pair in pairs if pair.category != FORMULA]
    formulas = [pair for pair in pairs if pair.category == FORMULA]
    orders, read = reading_order(text)
    spelt_out = [pair for pair in formulas if pair.guess and not pair.as_formula]
    return PageMatch(
        [*text, *(as_text(pair, rules) for pair in spelt_out)],
        [pair for pair in formulas if pair not in spelt_out],
        tables,
        orders,
        read,
    )


def match(blocks: Sequence[Block], elements: Sequence[Element], rules: Rules) -> list[Pair]:
    """Pairs of the scored blocks, by the chosen way of matching."""
    if rules.matching == "quick":
        return quick_match(blocks, elements, rules)
    pairs = simple_match(truths_of(blocks, rules), guesses_of(elements, rules), rules)
    return [pair for pair in pairs if pair.category not in IGNORED]


def in_page_order(elements: Sequence[Element]) -> list[Element]:
    """Kinds one after the other, in the order of their first element, as they were collected."""
    kinds = list(dict.fromkeys(element.kind for element in elements))
    return sorted(elements, key=lambda element: kinds.index(element.kind))


def as_text(pair: Pair, rules: Rules) -> Pair:
    """A formula that the prediction wrote as text, spelt in Unicode to be compared as such."""
    spelt = plain(pair.raw_truth)
    return replace(pair, truth=words(spelt, compat=rules.compat) or spelt)


def reading_order(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """Places in the reading order, sorted, and those that were found as the prediction has them."""
    orders = sorted(order for pair in pairs for order in pair.orders)
    found = sorted(
        ((pair.place, pair.orders) for pair in pairs if pair.place is not None),
        key=lambda one: one[0],
    )
    return orders, [order for _, own in found for order in own]


def match_tables(
    blocks: Sequence[Block], elements: Sequence[Element], rules: Rules
) -> tuple[list[Pair], list[Element]]:
    """Tables paired one with one, and the cells of those that are left over, as text."""
    if not rules.compat:
        elements = [
            replace(one, kind="table", content=latex_table_as_html(one.content))
            if one.kind == "latex_table"
            else one
            for one in elements
        ]
    markup = [one for one in elements if one.kind == "table"]
    latex = [one for one in elements if one.kind == "latex_table"]
    as_latex = len(latex) > len(markup)
    guesses = guesses_of(latex if as_latex else markup, rules)
    truths = truths_of(blocks, rules)
    if as_latex:
        truths = [replace(one, normal=one.block.latex or one.raw) for one in truths]
    found = assign([one.normal for one in truths], [one.normal for one in guesses])
    pairs = []
    for index, truth in enumerate(truths):
        guess = guesses[found[index]].raw if index in found and not as_latex else ""
        pairs.append(table_pair(truth, guess))
    left = [one for index, one in enumerate(guesses) if index not in set(found.values())]
    spare = [cell for guess in left for cell in cells_of(guess)] if truths and guesses else []
    return pairs, spare


def table_pair(truth: Truth, guess: str) -> Pair:
    """A table and what was found for it; the published 1.5 code gives LaTeX tables no credit."""
    return Pair(
        category=TABLE,
        truth=normal_table(truth.raw) or truth.raw,
        guess=normal_table(guess) or guess,
        raw_truth=truth.raw,
        raw_guess=guess,
        orders=(),
        place=None,
        as_formula=False,
        attributes=(truth.block.attributes,),
    )


def cells_of(guess: Guess) -> list[Element]:
    """The plain cells of a table, each a piece of text in the table's place."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(guess.raw, "html.parser")
    return [
        Element("text", guess.element.start, re.sub(r"\$\\cdot\$", "", cell.string).strip())
        for cell in soup.find_all("td")
        if cell.string
    ]
