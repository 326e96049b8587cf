"""Proposers, beliefs and budget put together: what a decoding loop talks to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from primum.parsing.speculation.belief import Belief
from primum.parsing.speculation.budget import Budget, FixedBudget
from primum.parsing.speculation.candidates import Candidates, stack
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.pace import Pace
from primum.parsing.speculation.proposer import Proposer
from primum.parsing.speculation.rest import Rest
from primum.parsing.speculation.tree import Tree, bare, cut, merge


@dataclass(frozen=True)
class Claim:
    """Who said so: a proposer and its kind of evidence."""

    proposer: str
    kind: str

    def __str__(self) -> str:
        return self.proposer if self.kind == self.proposer else f"{self.proposer}, {self.kind}"


class Speculator:
    """Trees of continuations for one sequence after another.

    A proposer that brings nothing step after step is left alone for longer and longer (`Rest`);
    where all of them together do not pay, nobody is asked for a while (`Pace`).

    Args:
        proposers: Where continuations come from.
        budget: How many nodes a step may have.
        depth: Longest continuation.
        patience: Steps without use before a proposer's first rest.
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
        self.depth = depth
        self.claims = [Claim(p.name, kind) for p in self.proposers for kind in p.claims]
        self.rests = [Rest(patience) for _ in self.proposers]
        self.pace = Pace(self.budget.plain)
        self.belief = Belief(len(self.claims))
        self.seconds = 0.0  # spent here, all pages
        self._candidates: Candidates | None = None
        self._drafted = True  # whether anybody was asked at this step
        self._asked: list[tuple[Rest, int, int]] = []  # with the claims of its proposer

    def start(self, drafts: Sequence[Draft]) -> None:
        """Begin a page."""
        began = time.perf_counter()
        for proposer in self.proposers:
            proposer.start(drafts)
        for rest in self.rests:
            rest.begin()
        self.pace.begin()
        self._candidates = None
        self.seconds += time.perf_counter() - began

    def propose(self, room: int | None = None, chain: bool = False) -> Tree:
        """The tree to verify next.

        Args:
            room: Longest continuation that is of any use, where the end is near.
            chain: Keep only the branch with the most expected tokens.
        """
        began = time.perf_counter()
        tree = self._propose(self.depth if room is None else min(self.depth, room))
        if chain:
            tree = tree.best_chain()
        self.seconds += time.perf_counter() - began
        return tree

    def _propose(self, depth: int) -> Tree:
        parts, base, self._asked = [], 0, []
        self._candidates = None
        self._drafted = self.pace.over(max((one.match for one in self.proposers), default=0))
        if not self._drafted:
            return bare()
        for proposer, rest in zip(self.proposers, self.rests, strict=True):
            if depth > 0 and rest.over(proposer.match):
                part = proposer.propose(depth)
                if part is not None and len(part):
                    parts.append(Candidates(part.tokens, part.claim + base, part.match))
                    self._asked.append((rest, base, base + len(proposer.claims)))
            base += len(proposer.claims)
        candidates = stack(parts, depth)
        if not len(candidates):
            return bare()
        self._candidates = candidates
        paths = merge(candidates, self.belief.chances(candidates))
        size = self.budget.nodes(-np.sort(-paths.chance))
        return cut(paths, size) if size else bare()

    def push(self, tokens: Sequence[int], nodes: int = 0, seconds: float = 0.0) -> None:
        """Tokens were decoded by a step that verified `nodes` nodes.

        Args:
            tokens: In their order.
            nodes: Of the tree, node 0 not counted.
            seconds: Of the whole step, proposing included; 0 where nobody looked at the clock.
        """
        began = time.perf_counter()
        if self._candidates is not None:
            self._learn(self._candidates, np.asarray(tokens, dtype=np.int64))
        for proposer in self.proposers:
            proposer.push(tokens)
        self.budget.record(nodes, len(tokens), seconds)
        spent = time.perf_counter() - began
        self.seconds += spent
        self.pace.learn(len(tokens), seconds and seconds + spent, self._drafted)

    def _learn(self, candidates: Candidates, decoded: np.ndarray) -> None:
        right = candidates.right(decoded)
        self.belief.learn(candidates, right)
        # the last token is the model's own
        supplied = np.minimum(right.sum(axis=1), len(decoded) - 1)
        for rest, begin, end in self._asked:
            mine = (candidates.claim >= begin) & (candidates.claim < end)
            rest.learn(int(supplied[mine].max(initial=0)))
