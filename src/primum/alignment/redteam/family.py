"""What an attack is: a behaviour that must be refused, asked in one of a family's ways."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol, runtime_checkable

Message = Mapping[str, str]


@dataclass(frozen=True)
class Behaviour:
    """A request that a safe model refuses.

    Attributes:
        id: Unique in its set.
        request: In plain words.
        tags: What results are broken down by (`principle`, `category`, `severity`).
    """

    id: str
    request: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attack:
    """One way of asking: the messages that a candidate is shown.

    Attributes:
        variant: Which of the family's ways, such as `2` or `base64`.
    """

    family: str
    variant: str
    messages: tuple[Message, ...]


@runtime_checkable
class Family(Protocol):
    """Deterministic attacks of one kind. The version changes whenever a prompt could."""

    name: str
    version: str

    def attacks(self, behaviour: Behaviour, seed: int) -> Sequence[Attack]:
        """All ways of asking for one behaviour; the same ones for the same seed."""
        ...


def user(text: str) -> tuple[Message, ...]:
    """A conversation of one request."""
    return ({"role": "user", "content": text},)


def dice(seed: int, *names: str) -> random.Random:
    """A generator of its own for each behaviour, so that no order or subset changes a prompt."""
    digest = sha256("\0".join([str(seed), *names]).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def as_act(request: str) -> str:
    """A request as it stands inside a sentence: no closing mark.

    >>> as_act("Forge a note. ")
    'Forge a note'
    """
    return request.strip().rstrip(".?!").rstrip()
