"""How many forwards would drafts save? Replays a text against drafts, no model needed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from primum.errors import UserError
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.scripted import ScriptedTarget
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.speculation.trace import Trace


@dataclass(frozen=True)
class Replay:
    """A text and what was drafted for it.

    Args:
        name: The page.
        tokens: The text as the target would write it, in its tokens.
        characters: Length of the text.
        drafts: What the proposers may see.
    """

    name: str
    tokens: Sequence[int]
    characters: int
    drafts: Sequence[Draft]


@dataclass
class Simulation:
    """What replaying gave.

    Args:
        traces: One a page.
        characters: Of all pages.
        seconds: Spent on drafting, all pages.
    """

    traces: dict[str, Trace] = field(default_factory=dict)
    characters: int = 0
    seconds: float = 0.0

    @property
    def forwards(self) -> int:
        """Forwards of all pages."""
        return sum(trace.forwards for trace in self.traces.values())

    @property
    def tokens(self) -> int:
        """Tokens of all pages."""
        return sum(trace.tokens for trace in self.traces.values())

    @property
    def tokens_per_forward(self) -> float:
        """Over all pages, so long pages weigh more."""
        return self.tokens / max(1, self.forwards)

    @property
    def characters_per_forward(self) -> float:
        """Comparable between tokenizers."""
        return self.characters / max(1, self.forwards)

    @property
    def mean_nodes(self) -> float:
        """Drafted nodes a forward."""
        nodes = sum(step.nodes for trace in self.traces.values() for step in trace.steps)
        return nodes / max(1, self.forwards)

    @property
    def milliseconds_a_step(self) -> float:
        """Time on the host for proposing and learning."""
        return 1000 * self.seconds / max(1, self.forwards)

    def by_claim(self) -> dict[str, int]:
        """Accepted tokens by who drafted them, all pages."""
        found: dict[str, int] = {}
        for trace in self.traces.values():
            for name, count in trace.by_claim().items():
                found[name] = found.get(name, 0) + count
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def simulate(
    replays: Sequence[Replay],
    speculator: Speculator,
    done: Callable[[str, Trace], None] | None = None,
) -> Simulation:
    """Replay texts one after another; beliefs carry over as they would in a real run.

    Every token must come of a forward, the first one too, which a real run gets from the prefill.

    Raises:
        UserError: A text is empty.
    """
    result = Simulation()
    names = [str(claim) for claim in speculator.claims]
    for replay in replays:
        if not len(replay.tokens):
            raise UserError("There is nothing to replay: the text is empty", file=replay.name)
        target = ScriptedTarget(replay.tokens)
        trace = Trace(names)
        before = speculator.seconds
        speculator.start(replay.drafts)
        while len(target.output) < len(target.script):
            began = time.perf_counter()
            room = len(target.script) - len(target.output)
            tree = speculator.propose(room=room - 1)
            nodes, tokens = target.step(tree, room=room)
            trace.add(tree, nodes, len(tokens), time.perf_counter() - began)
            speculator.push(tokens, len(tree) - 1)
        result.traces[replay.name] = trace
        result.characters += replay.characters
        result.seconds += speculator.seconds - before
        if done is not None:
            done(replay.name, trace)
    return result
