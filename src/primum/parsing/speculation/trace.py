"""What each step proposed and what came of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from primum.parsing.speculation.tree import Tree

OWN = -1  # the claim of a token that the target supplied itself


@dataclass(frozen=True)
class Step:
    """One forward.

    Args:
        nodes: Drafted nodes verified, node 0 not counted.
        claims: One a decoded token: who drafted it, `OWN` where nobody had.
        seconds: Wall clock, drafting included.
    """

    nodes: int
    claims: tuple[int, ...]
    seconds: float = 0.0


@dataclass
class Trace:
    """All steps of one sequence.

    Args:
        names: What each claim is called.
    """

    names: Sequence[str] = ()
    steps: list[Step] = field(default_factory=list)

    def add(self, tree: Tree, nodes: Sequence[int], tokens: int, seconds: float = 0.0) -> None:
        """Note a verified tree, its accepted nodes and how many tokens came of it."""
        drafted = [int(tree.claims[node]) for node in nodes[1:]][:tokens]
        own = [OWN] * (tokens - len(drafted))
        self.steps.append(Step(len(tree) - 1, (*drafted, *own), seconds))

    @property
    def tokens(self) -> int:
        """Tokens decoded."""
        return sum(len(step.claims) for step in self.steps)

    @property
    def forwards(self) -> int:
        """Forwards that verified; the prefill is not one of them."""
        return len(self.steps)

    @property
    def tokens_per_forward(self) -> float:
        """Mean tokens a forward."""
        return self.tokens / max(1, self.forwards)

    @property
    def mean_nodes(self) -> float:
        """Mean drafted nodes a forward."""
        return sum(step.nodes for step in self.steps) / max(1, self.forwards)

    @property
    def accepted(self) -> int:
        """Tokens that somebody had drafted."""
        return sum(claim != OWN for step in self.steps for claim in step.claims)

    def by_claim(self) -> dict[str, int]:
        """Accepted tokens by who drafted them, most first."""
        found = Counter(claim for step in self.steps for claim in step.claims if claim != OWN)
        return {self.names[claim]: count for claim, count in found.most_common()}
