"""Models that attack and are attacked: one method, whatever runs behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from primum.alignment.redteam.family import Message

if TYPE_CHECKING:
    from primum.language.source import Source

Chat = Sequence[Message]


class Speaker(Protocol):
    """Continues conversations. The name and version tell it apart in results."""

    name: str
    version: str

    def reply(self, chats: Sequence[Chat], seed: int) -> list[str]:
        """One answer a conversation."""
        ...


class LocalSpeaker:
    """A language model run in this process.

    Args:
        source: Hub id, directory, GGUF or package.
        temperature: 0 takes the likeliest token; attackers want variety.
    """

    def __init__(
        self,
        source: Source,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        batch_size: int = 8,
    ) -> None:
        self.source, self.max_new_tokens = source, max_new_tokens
        self.temperature, self.batch_size = temperature, batch_size
        self.name = source.name
        self.version = f"{max_new_tokens}:{temperature:g}"
        self._loaded: tuple[Any, Any] | None = None

    @property
    def model(self) -> Any:
        """The network."""
        return self._load()[0]

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self._load()[1]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = (self.source.model(), self.source.tokenizer())
        return self._loaded

    def reply(self, chats: Sequence[Chat], seed: int) -> list[str]:
        from primum.language.generate import generate

        made = generate(
            self.model,
            self.tokenizer,
            [[dict(message) for message in chat] for chat in chats],
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            temperature=self.temperature,
            seed=seed,
        )
        return [one.text for one in made]
