"""A second task for the encoder while it learns: read each line's characters from its patches.

The decoder alone stays a language model for a long time, since guessing the next character is
easier than looking. CTC (Graves et al., 2006) on the columns of a line makes the features legible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from primum.parsing.regions import Box

STEPS = 2  # places for characters in a column of patches: a narrow letter is half a patch wide
ROWS = 9  # places of a patch's row relative to its line that are told apart


class LineTruth(NamedTuple):
    """A line of a page: which page of the batch, where on it, and its characters' ids."""

    page: int
    box: Box
    ids: tuple[int, ...]


class LineReader(nn.Module):
    """From patch features to characters along a line.

    Args:
        width: Of the features.
        vocabulary: Number of character ids; 0 is the blank.
        patch: Pixels of a patch's side.
    """

    def __init__(self, width: int, vocabulary: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.look = nn.Linear(width, 1)
        self.place = nn.Embedding(ROWS, 1)
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Linear(width, STEPS * width)
        self.read = nn.Linear(width, vocabulary)

    def forward(self, features: Tensor, lines: Sequence[LineTruth]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of characters along each line.

        Args:
            features: (pages, rows, columns, width).
            lines: On any of the pages.

        Returns:
            (steps, lines, vocabulary), and how many steps of each line count (lines,).
        """
        device = features.device
        edges = torch.tensor(
            [[line.page, *(edge / self.patch for edge in line.box)] for line in lines]
        )
        page, left, top, right, bottom = edges.to(device).unbind(1)
        first_row, first = top.floor().long(), left.floor().long()
        high = (bottom.ceil().long() - first_row).clamp_min(1)
        wide = (right.ceil().long() - first).clamp_min(1)
        row = first_row[:, None] + torch.arange(int(high.max()), device=device)
        column = first[:, None] + torch.arange(int(wide.max()), device=device)
        seen = features[
            page.long()[:, None, None],
            row.clamp(0, features.shape[1] - 1)[:, :, None],
            column.clamp(0, features.shape[2] - 1)[:, None, :],
        ]  # (lines, rows, columns, width)
        offset = ((row + 0.5 - ((top + bottom) / 2)[:, None]) * 2).round().long()
        score = (
            self.look(seen)
            + self.place(offset.clamp(-(ROWS // 2), ROWS // 2) + ROWS // 2)[:, :, None]
        )
        outside = row >= (first_row + high)[:, None]
        score = score.masked_fill(outside[:, :, None, None], -torch.inf)
        line = (seen * score.softmax(1)).sum(1)
        steps = self.spread(self.norm(line)).unflatten(-1, (STEPS, -1)).flatten(1, 2)
        found = self.read(functional.gelu(steps)).float().log_softmax(-1)
        return found.transpose(0, 1), wide * STEPS

    def loss(self, features: Tensor, lines: Sequence[LineTruth]) -> Tensor:
        """Sum over lines of -log p of their characters; too narrow lines count nothing."""
        found, steps = self(features, lines)
        targets = torch.tensor([number for line in lines for number in line.ids])
        lengths = torch.tensor([len(line.ids) for line in lines])
        return functional.ctc_loss(
            found,
            targets.to(found.device),
            steps,
            lengths.to(found.device),
            reduction="sum",
            zero_infinity=True,
        )
