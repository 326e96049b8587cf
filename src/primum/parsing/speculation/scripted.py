"""A target without a model: it follows a script, and off it still obeys what came before."""

from collections.abc import Sequence

import numpy as np

from primum.parsing.speculation.tree import Tree
from primum.parsing.speculation.walk import walk


class ScriptedTarget:
    """Chooses the next token by the whole sequence so far, as a deterministic model does.

    Args:
        script: What it writes when nobody leads it astray; ends with the end token if it has one.
        vocabulary: Tokens off the script are drawn from 0 ... vocabulary - 1.

    >>> from primum.parsing.speculation.tree import bare
    >>> target = ScriptedTarget([4, 5, 6])
    >>> [target.step(bare())[1] for _ in range(3)]
    [[4], [5], [6]]
    """

    def __init__(self, script: Sequence[int], vocabulary: int = 1000) -> None:
        self.script = [int(token) for token in script]
        self.vocabulary = vocabulary
        self.output: list[int] = []
        self._state, self._on_script = 0, True

    def choices(self, tree: Tree) -> np.ndarray:
        """The choice after each node (nodes,)."""
        place = len(self.output)
        states, on = [self._state], [self._on_script]
        result = [self._choice(self._state, self._on_script, place)]
        tokens, parents, depths = (x.tolist() for x in (tree.tokens, tree.parents, tree.depths))
        for node in range(1, len(tree)):
            token, parent, here = tokens[node], parents[node], place + depths[node]
            states.append(hash((states[parent], token)))
            on.append(on[parent] and self._scripted(here - 1) == token)
            result.append(self._choice(states[node], on[node], here))
        return np.asarray(result, dtype=np.int64)

    def _scripted(self, place: int) -> int | None:
        return self.script[place] if place < len(self.script) else None

    def _choice(self, state: int, on_script: bool, place: int) -> int:
        if on_script and place < len(self.script):
            return self.script[place]
        return state % self.vocabulary

    def step(
        self, tree: Tree, ends: frozenset[int] = frozenset(), room: int | None = None
    ) -> tuple[list[int], list[int]]:
        """Verify a tree: accepted nodes and tokens, up to an end token or to the cap."""
        found = walk(tree, self.choices(tree))
        tokens = found.tokens[:room]
        for place, token in enumerate(tokens):
            if token in ends:
                tokens = tokens[: place + 1]
                break
        for token in tokens:
            self._on_script = self._on_script and self._scripted(len(self.output)) == token
            self._state = hash((self._state, token))
            self.output.append(token)
        return found.nodes[: len(tokens)], tokens
