"""A second task for the encoder while it learns: say which character stands where on a line.

The decoder alone stays a language model for a long time, since guessing the next character is
easier than looking. Pages made here know the place of every character, so that the features become
legible by plain classification, without the search for an alignment that CTC needs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from primum.language.batches import IGNORED

PATCH = 8  # a patch has one line's middle at most
STEPS = 3  # places for characters along a patch: the narrowest letter is a third of a patch wide
BLANK = 0  # no character has its middle here


class LineReader(nn.Module):
    """From features of visual tokens to characters along the lines of a page.

    Args:
        width: Of the features.
        vocabulary: Number of character ids; 0 is the blank.
        patches: Along a side of a visual token.
    """

    def __init__(self, width: int, vocabulary: int, patches: int = 2) -> None:
        super().__init__()
        self.patches = patches
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Linear(width, patches * patches * STEPS * width)
        self.read = nn.Linear(width, vocabulary)

    def forward(self, features: Tensor) -> Tensor:
        """Character logits (tokens, patches down, patches across, STEPS, vocabulary) of some
        visual tokens (tokens, width)."""
        shape = (self.patches, self.patches, STEPS, -1)
        steps = self.spread(self.norm(features)).unflatten(-1, shape)
        return self.read(functional.gelu(steps))

    def loss(self, features: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """How badly the lines are read.

        Args:
            features: (pages, rows, columns, width) of visual tokens.
            truth: (pages, rows of patches, columns of patches, STEPS) ids, `IGNORED` away from
                the middle of lines.

        Returns:
            Sum of -log p over the steps of all lines, and the share of characters that are right.
        """
        side = (-1, self.patches)
        truth = truth.unflatten(2, side).unflatten(1, side).transpose(2, 3)
        lines = (truth != IGNORED).flatten(3).any(-1)
        expected = truth[lines]
        found = self(features[lines]).float()
        loss = functional.cross_entropy(
            found.flatten(0, -2), expected.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        printed = expected > BLANK
        right = (found.detach().argmax(-1) == expected)[printed]
        return loss, right.float().sum() / printed.sum().clamp_min(1)


def line_truth(size: tuple[int, int], lines: list[tuple[float, list[tuple[float, int]]]]) -> Tensor:
    """What stands where on a page.

    Args:
        size: (width, height) of the page in pixels.
        lines: Each with its middle's height and its characters from left to right: (middle, id).

    Returns:
        (rows, columns, STEPS) ids.
    """
    columns, rows = size[0] // PATCH, size[1] // PATCH
    truth = torch.full((rows, columns * STEPS), IGNORED)
    for height, letters in lines:
        row = min(int(height / PATCH), rows - 1)
        steps = [min(int(x * STEPS / PATCH), columns * STEPS - 1) for x, _ in letters]
        truth[row, min(steps) : max(steps) + 1] = BLANK
        for step, (_, letter) in zip(steps, letters, strict=True):
            truth[row, step] = letter
    return truth.view(rows, columns, STEPS)
