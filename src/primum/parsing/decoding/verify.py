"""Proof after the fact: one teacher-forced pass over the output, every token checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.decoding.steps import ChainSteps
from primum.parsing.speculation.tree import Tree

# Margins below these are within what a differently shaped forward may change.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}


@dataclass(frozen=True)
class Verification:
    """What the pass found.

    Args:
        tokens: Tokens checked.
        differing: Places whose token is not the argmax of the pass.
        margins: For each of them, how far the token's logit lies below the best one.
        tolerance: What a forward of another shape may change in this dtype.
    """

    tokens: int
    differing: tuple[int, ...]
    margins: tuple[float, ...]
    tolerance: float

    @property
    def exact(self) -> bool:
        """Every token is the pass's own choice."""
        return not self.differing

    @property
    def numeric(self) -> bool:
        """Every difference lies within what the dtype allows; else something is wrong."""
        return all(margin <= self.tolerance for margin in self.margins)

    def __str__(self) -> str:
        if self.exact:
            return f"every one of {self.tokens} tokens is the target's own choice"
        worst = max(self.margins)
        how = "within" if self.numeric else "BEYOND"
        return (
            f"{len(self.differing)} of {self.tokens} tokens differ, first at {self.differing[0]}, "
            f"worst margin {worst:.2g} ({how} the tolerance {self.tolerance:g})"
        )


@torch.no_grad()
def verify(
    model: Any, sequence: Prefilled, output: Sequence[int], width: int = 512
) -> Verification:
    """Read the output after its prompt in chunks and compare each token with the argmax.

    Args:
        sequence: The prompt, prefilled anew: it is consumed.
        output: The tokens to check.
        width: Tokens a forward.
    """
    steps = ChainSteps(model, sequence)
    logits = [sequence.logits[None]]
    for begin in range(0, len(output) - 1, width):
        part = torch.tensor(output[begin : min(begin + width, len(output) - 1)])
        size = len(part)
        line = torch.arange(size).numpy()
        chain = Tree(
            part.numpy(), (line - 1).clip(0), line, line * 0.0 + 1, line * 0,
            torch.ones(size, size).tril().bool().numpy(),
        )  # fmt: skip
        logits += steps.verify([int(part[0])], [chain])
        steps.keep([list(range(size))])
    differing: list[int] = []
    margins: list[float] = []
    processors: Any = sequence.processors
    place = 0
    for scores in logits:
        for row in scores.to(torch.float32):
            ids = steps._ids.new_tensor([[*sequence.input_ids[0].tolist(), *output[:place]]])
            if len(processors):
                row = processors(ids, row[None].clone())[0]
            if int(row.argmax()) != output[place]:
                differing.append(place)
                margins.append(float(row.max() - row[output[place]]))
            place += 1
    limit = TOLERANCE.get(sequence.logits.dtype, 1e-4)
    return Verification(len(output), tuple(differing), tuple(margins), limit)
