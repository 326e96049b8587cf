"""What `generate` was asked for: how a token is chosen and when to stop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.speculation.tree import Tree
from primum.parsing.speculation.walk import Walk, walk


class Rules:
    """Greedy choice after the logits processors, and every stopping criterion, for one sequence.

    Args:
        sequence: A prefilled prompt.
        tolerance: 1 is strict. Below, a drafted token is taken if its probability is at least this
            share of the best one's: lossy, and only without processors.
    """

    def __init__(self, sequence: Prefilled, tolerance: float = 1.0) -> None:
        self.prompt = sequence.input_ids.cpu()
        self.processors: Any = sequence.processors
        self.tolerance = tolerance
        self.room = int(sequence.config.max_length) - self.prompt.shape[1]
        eos = getattr(sequence.config, "_eos_token_tensor", None)
        self.ends: frozenset[int] = frozenset() if eos is None else frozenset(eos.tolist())
        self._device = sequence.input_ids.device
        known = {"MaxLengthCriteria", "EosTokenCriteria"}
        self._others = [one for one in sequence.criteria if type(one).__name__ not in known]
        self.output: list[int] = []
        self.finished = self.room <= 0

    def choose(self, tree: Tree, logits: Tensor) -> Walk:
        """Walk down a tree, and note the tokens up to the one that ends the sequence.

        Args:
            logits: After each node (nodes, vocabulary).

        Returns:
            The accepted nodes and the tokens decoded: as many as nodes.
        """
        if len(self.processors):
            found = self._step_by_step(tree, logits)
        elif self.tolerance < 1:
            found = self._tolerant(tree, logits)
        else:
            # Tokens are picked the way `generate` picks them: argmax of float32 logits.
            choices = logits.to(torch.float32).argmax(-1).cpu().numpy()
            found = walk(tree, choices)
        return self._until_finished(found)

    def _until_finished(self, found: Walk) -> Walk:
        count = 0
        for token in found.tokens:
            count += 1
            self.output.append(token)
            if self._stops(token):
                self.finished = True
                break
        return Walk(found.nodes[:count], found.tokens[:count])

    def _stops(self, token: int) -> bool:
        if token in self.ends or len(self.output) >= self.room:
            return True
        if not self._others:
            return False
        ids = self._ids(self.output)
        return any(bool(criterion(ids, None).all()) for criterion in self._others)

    def _ids(self, output: Iterable[int]) -> Tensor:
        """Prompt and output (1, length) where the model's logits are."""
        new = torch.tensor([list(output)], dtype=self.prompt.dtype)
        return torch.cat([self.prompt, new], dim=-1).to(self._device)

    def _step_by_step(self, tree: Tree, logits: Tensor) -> Walk:
        """Processors see each node's own path, in order, as in plain decoding."""
        children = _children(tree)
        nodes = [0]
        tokens: list[int] = []
        while True:
            scores = logits[nodes[-1]].to(torch.float32, copy=True)[None]
            scores = self.processors(self._ids([*self.output, *tokens]), scores)
            tokens.append(int(scores.argmax(-1)))
            following = children.get((nodes[-1], tokens[-1]))
            if following is None or tokens[-1] in self.ends:
                return Walk(nodes, tokens)
            nodes.append(following)

    def _tolerant(self, tree: Tree, logits: Tensor) -> Walk:
        """Take the likeliest drafted child within the tolerance, else the model's own choice."""
        scores = logits.to(torch.float32)
        best, choices = scores.max(-1)
        parents = torch.as_tensor(tree.parents, device=scores.device)
        tokens = torch.as_tensor(tree.tokens, device=scores.device)
        below = (scores[parents, tokens] - best[parents]).cpu().numpy()
        own = choices.cpu().numpy()
        nodes = [0]
        path: list[int] = []
        while True:
            drafted = np.flatnonzero(tree.parents[1:] == nodes[-1]) + 1
            drafted = drafted[below[drafted] >= np.log(self.tolerance)]
            if not len(drafted):
                return Walk(nodes, [*path, int(own[nodes[-1]])])
            following = int(drafted[below[drafted].argmax()])
            path.append(int(tree.tokens[following]))
            nodes.append(following)


def _children(tree: Tree) -> dict[tuple[int, int], int]:
    pairs = zip(tree.parents[1:].tolist(), tree.tokens[1:].tolist(), strict=True)
    return {pair: node for node, pair in enumerate(pairs, start=1)}


def sequence_ids(rules: Rules, like: Any) -> Tensor:
    """Prompt and output (1, length), where `like` lives."""
    return rules._ids(rules.output).to(like.device)
