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

PORTION = 8  # tokens that proposers are told at once while nobody asks them


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
    where all of them together do not pay, nobody is asked for a while (`Pace`), and the output is
    told to them in portions.

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
        self._owner = np.repeat(
            np.arange(len(self.proposers)), [len(p.claims) for p in self.proposers]
        )
        self.pace = Pace(self.budget.plain)
        self.belief = Belief(len(self.claims))
        self.seconds = 0.0  # spent here, all pages
        self._candidates: Candidates | None = None
        self._drafted = True  # whether anybody was asked at this step
        self._asked: list[int] = []  # whose proposers' candidates those are
        self._late: list[int] = []  # decoded, and the proposers do not know it yet

    def start(self, drafts: Sequence[Draft]) -> None:
        """Begin a page."""
        began = time.perf_counter()
        for proposer in self.proposers:
            proposer.start(drafts)
        for rest in self.rests:
            rest.begin()
        self.pace.begin()
        self._candidates, self._late = None, []
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
        self._candidates = None
        self._drafted = self._awake()
        if not self._drafted:
            return bare()
        parts, base, self._asked = [], 0, []
        for number, (proposer, rest) in enumerate(zip(self.proposers, self.rests, strict=True)):
            if depth > 0 and rest.over(proposer.match):
                part = proposer.propose(depth)
                if part is not None and len(part):
                    parts.append(Candidates(part.tokens, part.claim + base, part.match))
                    self._asked.append(number)
            base += len(proposer.claims)
        candidates = stack(parts, depth)
        if not len(candidates):
            return bare()
        self._candidates = candidates
        paths = merge(candidates, self.belief.chances(candidates))
        size = self.budget.nodes(paths.chances[paths.order])
        return cut(paths, size) if size else bare()

    def _awake(self) -> bool:
        """Whether this step is drafted. In a pause the evidence is looked at now and then."""
        if not self.pace.over() and len(self._late) < PORTION:
            return False
        self._tell(self._late)
        self._late = []
        return self.pace.over(max((one.match for one in self.proposers), default=0))

    def _tell(self, tokens: Sequence[int]) -> None:
        if tokens:
            for proposer in self.proposers:
                proposer.push(tokens)

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
        if self._drafted:
            self._tell(tokens)
        else:
            self._late += tokens
        self.budget.record(nodes, len(tokens), seconds)
        spent = time.perf_counter() - began
        self.seconds += spent
        self.pace.learn(len(tokens), seconds and seconds + spent, self._drafted)

    def _learn(self, candidates: Candidates, decoded: np.ndarray) -> None:
        right = candidates.right(decoded)
        self.belief.learn(candidates, right)
        # the last token is the model's own
        supplied = np.minimum(right.sum(axis=1), len(decoded) - 1)
        most = np.zeros(len(self.proposers), dtype=np.int64)
        np.maximum.at(most, self._owner[candidates.claim], supplied)
        for number in self._asked:
            self.rests[number].learn(int(most[number]))
