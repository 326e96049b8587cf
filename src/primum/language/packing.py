"""Texts laid end to end in one row, without padding and without seeing each other.

A row is made of trees. A tree is a trunk and its branches: each branch goes on where the trunk ends
and sees the trunk and itself alone. A plain conversation is a trunk without branches; a preference
pair is one prompt with two answers, computed once; a group of samples is one prompt with many.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from primum.errors import UserError
from primum.language.chat import Encoded

Sizes = tuple[int, ...]  # tokens of a trunk and of each of its branches


@dataclass(frozen=True)
class Tree:
    """Token ids of a trunk and its branches, each with the tokens that are learned.

    Where there are branches, the answers are the branches and nothing of the trunk is learned.
    """

    trunk: Encoded
    branches: tuple[Encoded, ...] = ()

    @property
    def sizes(self) -> Sizes:
        """Tokens of the trunk and of each branch."""
        return (len(self.trunk.input_ids), *(len(one.input_ids) for one in self.branches))

    @property
    def answers(self) -> tuple[Encoded, ...]:
        """The parts whose learned tokens make one sequence each."""
        return self.branches or (self.trunk,)


def grow(answers: Sequence[Encoded]) -> tuple[Tree, ...]:
    """One tree for answers to the same prompt; a tree each where their prompts differ.

    The trunk is what all have in common before the first learned token of any of them. What
    follows the last learned token of an answer cannot change its probability and is left out.

    >>> mask = [False, False, True]
    >>> grow([Encoded([1, 2, 7], mask), Encoded([1, 2, 8], mask)])[0].sizes
    (2, 1, 1)
    """
    cut = [trimmed(one) for one in answers]
    first = min(one.loss_mask.index(True) for one in cut)
    prompts = {tuple(one.input_ids[:first]) for one in cut}
    if len(cut) == 1 or len(prompts) > 1 or first == 0:
        return tuple(Tree(one) for one in cut)
    trunk = Encoded(cut[0].input_ids[:first], [False] * first)
    branches = (Encoded(one.input_ids[first:], one.loss_mask[first:]) for one in cut)
    return (Tree(trunk, tuple(branches)),)


def trimmed(one: Encoded) -> Encoded:
    """Without what follows the last learned token.

    Raises:
        UserError: Nothing is learned of it.
    """
    if not any(one.loss_mask):
        raise UserError("An answer has no token to learn from", remedy="leave this row out")
    end = len(one.loss_mask) - one.loss_mask[::-1].index(True)
    return Encoded(one.input_ids[:end], one.loss_mask[:end])


def flatten(trees: Sequence[Tree]) -> dict[str, Any]:
    """One row of all trees.

    Returns:
        `input_ids` and `position_ids`, (1, time): positions go on from trunk to branch.
        `attention_mask`, a (1, 1, 1, 1) sign to models that no mask is to be made: see
        `primum.language.attention`. `trees`: the sizes. Of each learned token (n,) `sources`, the
        position that predicts it, `targets`, itself, and `owners`, its sequence's number.
        `finals`: the last token's position in each sequence. `sequences`: how many there are.
    """
    ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    finals: list[int] = []
    for tree in trees:
        start, trunk = len(ids), len(tree.trunk.input_ids)
        ids += tree.trunk.input_ids
        positions += range(trunk)
        for part in tree.answers:
            inside = part is not tree.trunk
            begin = len(ids) if inside else start
            if inside:
                ids += part.input_ids
                positions += range(trunk, trunk + len(part.input_ids))
            for place, learned in enumerate(part.loss_mask):
                if learned and (place or inside):  # nothing predicts the first token of all
                    # the trunk's last token predicts the first of every branch
                    sources.append(begin + place - 1 if place else start + trunk - 1)
                    targets.append(part.input_ids[place])
                    owners.append(len(finals))
            finals.append(begin + len(part.input_ids) - 1)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": torch.zeros(1, 1, 1, 1),
        "trees": [tree.sizes for tree in trees],
        "sources": torch.tensor(sources, dtype=torch.long),
        "targets": torch.tensor(targets, dtype=torch.long),
        "owners": torch.tensor(owners, dtype=torch.long),
        "finals": torch.tensor(finals),
        "sequences": len(finals),
    }


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of indices, none longer than `capacity` in sum: best fit, longest first.

    Raises:
        UserError: One alone is longer.

    >>> pack([5, 4, 3, 2, 1], 8)
    [[0, 2], [1, 3, 4]]
    """
    if lengths and max(lengths) > capacity:
        raise UserError(
            f"A text of {max(lengths)} tokens does not fit into a row of {capacity}",
            remedy="raise data.packing, or lower data.max_length",
        )
    bins: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # bins with so much room left, the newest last
    rooms: list[int] = []  # such rooms, ascending
    for index in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
        place = bisect_left(rooms, lengths[index])
        if place == len(rooms):
            number, room = len(bins), capacity
            bins.append([])
        else:
            room = rooms[place]
            number = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        bins[number].append(index)
        left = room - lengths[index]
        if left not in by_room:
            by_room[left] = []
            insort(rooms, left)
        by_room[left].append(number)
    return bins
