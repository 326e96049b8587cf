"""How much each learned token counts.

Whether an answer refuses or helps is settled in its first few tokens, a tenth of it. Counting
them more lets a small model learn that decision from little data; the kinds' weights then say which
mistake is worse, as class weights do for a classifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from primum.language.chat import Encoded
from primum.language.formats import Conversation


@dataclass(frozen=True)
class Emphasis:
    """Weights of the opening tokens of each answer; every other learned token weighs 1.

    Args:
        opening: Weight of an opening token.
        tokens: How many tokens of an answer are its opening.
        kinds: Factor on `opening` by the conversation's `extra["kind"]`; 1 where none is given.
    """

    opening: float = 1.0
    tokens: int = 4
    kinds: Mapping[str, float] = field(default_factory=dict)

    def weights(self, encoded: Encoded, conversation: Conversation) -> list[float]:
        """One weight a token; 0 off the answers.

        >>> encoded = Encoded([5, 6, 7, 8, 9], [False, False, True, True, True])
        >>> talk = Conversation("a", (), None, "f", 1, {"kind": "benign"})
        >>> Emphasis(3.0, tokens=2, kinds={"benign": 2.0}).weights(encoded, talk)
        [0.0, 0.0, 6.0, 6.0, 1.0]
        """
        opening = self.opening * self.kinds.get(str(conversation.extra.get("kind")), 1.0)
        weights, position = [], 0
        for learned in encoded.loss_mask:
            position = position + 1 if learned else 0
            weights.append((opening if position <= self.tokens else 1.0) if learned else 0.0)
        return weights
