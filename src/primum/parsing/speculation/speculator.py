"""Proposers, beliefs and budget put together: what a decoding loop talks to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from primum.parsing.speculation.belief import Belief
from primum.parsing.speculation.budget import Budget, FixedBudget
from primum.parsing.speculation.candidates import Candidates, stack
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.proposer import Proposer
from primum.parsing.speculation.tree import Tree, bare, cut, merge

LONGEST_REST = 16  # steps


@dataclass(frozen=True)
class Claim:
    """Who said so: a proposer and its kind of evidence."""

    proposer: str
    kind: str

    def __str__(self) -> str:
        return self.proposer if self.kind == self.proposer else f"{self.proposer}, {self.kind}"


class Speculator:
    """Trees of continuations for one sequence after another.

    Where step after step brings nothing, drafting rests, twice as long every time up to
    `LONGEST_REST` steps: drafts that are of no use must cost next to nothing.

    Args:
        proposers: Where continuations come from.
        budget: How many nodes a step may have.
        depth: Longest continuation.
        patience: Fruitless steps in a row before the first rest.
    """

    def __init__(
        self,
        proposers: Sequence[Proposer],
        budget: Budget | None = None,
        depth: int = 48,
        patience: float = 12,
    ) -> None:
        self.proposers = list(proposers)
        self.budget = budget or FixedBudget()
        self.depth, self.patience = depth, patience
        self.claims = [Claim(p.name, kind) for p in self.proposers for kind in p.claims]
        self.belief = Belief(len(self.claims))
        self.seconds = 0.0  # CPU time spent here, all pages
        self._candidates: Candidates | None = None
        self._fruitless = self._rest = 0

    def start(self, drafts: Sequence[Draft]) -> None:
        """Begin a page."""
        began = time.thread_time()
        for proposer in self.proposers:
            proposer.start(drafts)
        self._candidates = None
        self._fruitless = self._rest = 0
        self.seconds += time.thread_time() - began

    def propose(self, room: int | None = None, chain: bool = False) -> Tree:
        """The tree to verify next.

        Args:
            room: Longest continuation that is of any use, where the end is near.
            chain: Keep only the branch with the most expected tokens.
        """
        began = time.thread_time()
        tree = self._propose(self.depth if room is None else min(self.depth, room))
        if chain:
            tree = tree.best_chain()
        self.seconds += time.thread_time() - began
        return tree

    def _propose(self, depth: int) -> Tree:
        if self._rest:
            self._rest -= 1
            self._candidates = None
            return bare()
        parts, base = [], 0
        for proposer in self.proposers if depth > 0 else ():
            part = proposer.propose(depth)
            if part is not None and len(part):
                parts.append(Candidates(part.tokens, part.claim + base, part.match))
            base += len(proposer.claims)
        self._candidates = None
        candidates = stack(parts, depth)
        if not len(candidates):
            return bare()
        self._candidates = candidates
        paths = merge(candidates, self.belief.chances(candidates))
        size = self.budget.nodes(-np.sort(-paths.chance))
        return cut(paths, size) if size else bare()

    def push(self, tokens: Sequence[int], nodes: int = 0, seconds: float = 0.0) -> None:
        """Tokens were decoded by a step that verified `nodes` nodes in `seconds`."""
        began = time.thread_time()
        if self._candidates is not None:
            self.belief.learn(self._candidates, np.asarray(tokens, dtype=np.int64))
            self._fruitless = 0 if len(tokens) > 1 else self._fruitless + 1
            if self._fruitless >= self.patience:
                tried = self._fruitless - int(self.patience)
                self._rest = LONGEST_REST if tried > 4 else 2**tried
        for proposer in self.proposers:
            proposer.push(tokens)
        self.budget.record(nodes, len(tokens), seconds)
        self.seconds += time.thread_time() - began
