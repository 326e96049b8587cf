r"""Formulas in the part of LaTeX that matplotlib's mathtext can draw."""

from __future__ import annotations

import string
from functools import cache
from random import Random
from typing import Any

import numpy as np

LETTERS = [
    *string.ascii_lowercase.translate(str.maketrans("", "", "ijlo")),
    *(r"\alpha", r"\beta", r"\gamma", r"\lambda", r"\mu", r"\sigma", r"\theta", r"\omega"),
]
FUNCTIONS = (r"\sin", r"\cos", r"\log", r"\exp")
RELATIONS = ("=", r"\leq", r"\geq", r"\approx")


def formula(luck: Random) -> str:
    """A relation between two expressions."""
    return f"{term(luck, 2)} {luck.choice(RELATIONS)} {term(luck, 2)}"


def term(luck: Random, depth: int) -> str:
    """An expression; fractions and roots at most `depth` deep."""
    kind = luck.randrange(8) if depth else luck.randrange(3)
    if kind == 0:
        return luck.choice(LETTERS)
    if kind == 1:
        return f"{luck.choice(LETTERS)}_{{{luck.choice('0123ijkn')}}}"
    if kind == 2:
        return f"{luck.choice(LETTERS)}^{{{luck.randint(2, 9)}}}"
    if kind == 3:
        return rf"\frac{{{term(luck, depth - 1)}}}{{{term(luck, depth - 1)}}}"
    if kind == 4:
        return rf"\sqrt{{{term(luck, depth - 1)}}}"
    if kind == 5:
        return rf"{luck.choice(FUNCTIONS)}({term(luck, depth - 1)})"
    if kind == 6:
        return rf"\sum_{{i=1}}^{{n}} {term(luck, depth - 1)}"
    return f"{term(luck, depth - 1)} {luck.choice('+-')} {term(luck, depth - 1)}"


@cache
def parser() -> Any:
    """Matplotlib's reader of formulas."""
    from matplotlib.mathtext import MathTextParser

    return MathTextParser("agg")


def drawn(latex: str, size: int) -> np.ndarray:
    """Ink of a formula, (height, width) in 0 to 1, at `size` pixels an em."""
    from matplotlib.font_manager import FontProperties

    given = FontProperties(size=size)
    found = parser().parse(f"${latex}$", dpi=72, prop=given)
    return np.asarray(found.image, dtype=np.float32) / 255


def outlines(latex: str, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """A formula's glyphs as paths in points from its lower left corner: (vertices, codes) each."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), f"${latex}$", size=size, prop=FontProperties(size=size))
    assert path.codes is not None
    low = path.vertices.min(axis=0)
    return [(path.vertices - low, path.codes)]
