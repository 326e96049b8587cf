"""Best-of-N: the request N times with small random damage, until one comes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from primum.alignment.redteam.family import Attack, Behaviour, dice, user


@dataclass(frozen=True)
class BestOfN:
    """Scrambled words, random capitals and shifted letters (Hughes et al., 2024).

    Args:
        n: Attempts a behaviour.
        strength: Share of words, letters and codes that are touched, about.
    """

    n: int = 4
    strength: float = 0.4
    name: str = "best_of_n"
    version: str = "1"

    def attacks(self, behaviour: Behaviour, seed: int) -> Sequence[Attack]:
        """N differently damaged requests."""
        return [
            Attack(self.name, str(number), user(self.damaged(behaviour, seed, number)))
            for number in range(self.n)
        ]

    def damaged(self, behaviour: Behaviour, seed: int, number: int) -> str:
        """The request with one draw of damage."""
        draw = dice(seed, self.name, behaviour.id, str(number))
        words = []
        for word in behaviour.request.strip().split(" "):
            if len(word) > 3 and draw.random() < self.strength**0.5:
                inner = list(word[1:-1])
                draw.shuffle(inner)
                word = word[0] + "".join(inner) + word[-1]
            words.append(word)
        letters = []
        for letter in " ".join(words):
            if draw.random() < self.strength**0.5:
                letter = letter.upper() if letter.islower() else letter.lower()
            if letter.isalpha() and letter.isascii() and draw.random() < self.strength**3:
                letter = chr(max(32, min(126, ord(letter) + draw.choice((-1, 1)))))
            letters.append(letter)
        return "".join(letters)
