"""Two programs measured in turn, so that whatever slows the machine slows both."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from primum.errors import UserError


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of paired ratios with a 95 % bootstrap interval over the pairs."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n} pairs)"


def paired_ratio(ours: Sequence[float], theirs: Sequence[float], draws: int = 10_000) -> Ratio:
    """Ours / theirs, pair by pair.

    >>> print(paired_ratio([2.0, 4.0], [1.0, 2.0]))
    2.000 [2.000, 2.000] (n = 2 pairs)
    """
    logs = np.log(np.asarray(ours) / np.asarray(theirs))
    picks = np.random.default_rng(0).integers(len(logs), size=(draws, len(logs)))
    low, high = np.quantile(logs[picks].mean(1), [0.025, 0.975])
    value, low, high = (float(np.exp(x)) for x in (logs.mean(), low, high))
    return Ratio(value, low, high, len(logs))


def in_turn(
    modules: Mapping[str, str],
    work: Path,
    pairs: int,
    environment: Mapping[str, str],
    unit: str = "tokens",
) -> dict[str, list[dict[str, Any]]]:
    """Run each side's module as `python -m MODULE WORK` once a pair, swapping who goes first.

    Each child prints one JSON object as its last line, with `UNIT_per_second` in it.

    Raises:
        UserError: A child failed; its last lines are shown.
    """
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in modules}
    for number in range(pairs):
        order = list(modules) if number % 2 == 0 else list(modules)[::-1]
        for side in order:
            child = subprocess.run(
                [sys.executable, "-m", modules[side], str(work)],
                env=os.environ | dict(environment),
                capture_output=True,
                text=True,
            )
            if child.returncode != 0:
                tail = "\n".join(child.stderr.splitlines()[-12:])
                raise UserError(f"The {side} side of the benchmark failed:\n{tail}")
            results[side].append(json.loads(child.stdout.splitlines()[-1]))
        print(f"pair {number + 1}/{pairs}: " + ", ".join(
            f"{side} {results[side][-1][f'{unit}_per_second']:.3g} {unit}/s" for side in modules
        ), flush=True)  # fmt: skip
    return results
