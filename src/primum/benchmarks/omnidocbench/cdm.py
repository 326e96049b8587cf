"""CDM, the formula score that needs TeX: its input written out, its results read back in.

Character detection matching (Wang et al., 2024) renders both formulas with TeX, one colour a token,
and matches what it sees. It comes with OmniDocBench (`metrics/cdm/evaluation.py -i PAIRS`) and
wants TeX Live, ImageMagick and Node. Primum never puts another figure in its place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.files import atomic_write

REASON = (
    "CDM renders formulas with TeX: run OmniDocBench's metrics/cdm/evaluation.py on the "
    "formula_pairs.json beside this report, then give its metrics_res.json as benchmark.cdm"
)


def write_pairs(pairs: Sequence[Sequence[str]], path: Path) -> None:
    """Formula pairs (truth, guess) as CDM's own program reads them."""
    rows = [
        {"img_id": str(number), "gt": bare(truth), "pred": bare(without_fence(guess))}
        for number, (truth, guess) in enumerate(pairs)
    ]
    atomic_write(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def bare(formula: str) -> str:
    """A formula without dollar signs around it."""
    return formula.strip("$").strip()


def without_fence(formula: str) -> str:
    """What a fence marked as LaTeX holds, where there is one."""
    return formula.split("```latex")[-1].split("```")[0]


def read_f1(path: Path, count: int) -> list[float]:
    """The F1 of each of `count` pairs, in the order in which they were written.

    Raises:
        UserError: The file is missing, is not CDM's, or is of another number of pairs.
    """
    try:
        details: dict[str, Any] = json.loads(path.read_text("utf-8"))["details"]
        found = {name: float(row["F1_score"]) for name, row in details.items()}
    except FileNotFoundError:
        raise UserError("There is no such file", file=path) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"This is no result of CDM: {error}", file=path) from None
    if set(found) != {str(number) for number in range(count)}:
        raise UserError(
            f"CDM scored {len(found)} pairs, this evaluation has {count}",
            file=path,
            remedy="run it on the formula_pairs.json of this very evaluation",
        )
    return [found[str(number)] for number in range(count)]
