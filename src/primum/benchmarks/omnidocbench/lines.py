"""Both sides of a page as lines that can be compared, and how far two lines are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from primum.benchmarks.omnidocbench.annotations import FORMULA, TABLE, Block
from primum.benchmarks.omnidocbench.extraction import Element
from primum.benchmarks.omnidocbench.normalising import normal_formula, normal_text
from primum.extras import require


@dataclass(frozen=True)
class Truth:
    """A block that a prediction should hold.

    Attributes:
        normal: What is compared.
        raw: As annotated.
        category: Its kind.
        block: Where its place and attributes are looked up.
    """

    normal: str
    raw: str
    category: str
    block: Block


@dataclass(frozen=True)
class Guess:
    """A piece of a prediction.

    Attributes:
        normal: What is compared.
        raw: As predicted.
        element: Where its place and kind are looked up.
    """

    normal: str
    raw: str
    element: Element


@dataclass(frozen=True)
class Rules:
    """Which of the published scorer's ways are followed.

    Attributes:
        version: `1.0`, or `1.5` in which text and formulas are matched together.
        matching: `quick` joins pieces of a broken block; `simple` pairs one with one.
        compat: Score as the published code does, its accidents included (`docs/omnidocbench.md`).
    """

    version: str = "1.5"
    matching: str = "quick"
    compat: bool = True


def truths_of(blocks: Sequence[Block], rules: Rules) -> list[Truth]:
    """Blocks with something to compare."""
    kept = []
    for block in blocks:
        if block.category == FORMULA:
            normal = normal_formula(block.content, version=rules.version)
        elif block.category == TABLE:
            normal = block.content
        else:
            normal = normal_text(block.content, compat=rules.compat)
        if block.content and normal:
            kept.append(Truth(normal, block.content, block.category, block))
    if not rules.compat:
        return kept
    # the published scorer drops empty lines but not their blocks: what follows looks one too far up
    return [
        Truth(one.normal, one.raw, one.category, blocks[index]) for index, one in enumerate(kept)
    ]


def guesses_of(elements: Sequence[Element], rules: Rules) -> list[Guess]:
    """Elements with something to compare."""
    kept = []
    for element in elements:
        if element.kind == "text":
            normal = normal_text(element.content, compat=rules.compat)
        elif element.kind == "formula":
            normal = normal_formula(element.content, version=rules.version)
        else:
            normal = element.content
        if element.content and normal:
            kept.append(Guess(normal, element.content, element))
    if not rules.compat:
        return kept
    return [Guess(one.normal, one.raw, elements[index]) for index, one in enumerate(kept)]


def distances(truths: Sequence[str], guesses: Sequence[str]) -> np.ndarray:
    """(truths, guesses) edit distance over the longer length, in float64."""
    require("rapidfuzz", "parsing")
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    if not truths or not guesses:
        return np.zeros((len(truths), len(guesses)))
    edits = cdist(truths, guesses, scorer=Levenshtein.distance, dtype=np.int64)
    longer = np.maximum.outer([len(text) for text in truths], [len(text) for text in guesses])
    return edits / longer


def distance(first: str, second: str) -> float:
    """Edit distance over the longer length."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(first, second) / max(len(first), len(second))


@lru_cache(maxsize=4096)
def best_inside(whole: str, part: str, limit: float) -> float | None:
    """Least edit distance of `part` to a window of `whole` of the same length, over that length.

    Args:
        whole, part: Strings.
        limit: What is above it may come out as any larger figure: windows are then left early.

    Returns:
        None where `part` is longer than `whole` or empty.

    >>> best_inside("the quick brown fox", "quack", 1.0), best_inside("a", "ab", 1.0)
    (0.2, None)
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    size = len(part)
    if not 0 < size <= len(whole):
        return None
    if part in whole:
        return 0.0
    windows = [whole[at : at + size] for at in range(len(whole) - size + 1)]
    cutoff = int(limit * size) + 1
    found = cdist([part], windows, scorer=Levenshtein.distance, score_cutoff=cutoff, dtype=np.int64)
    return float(found.min()) / size
