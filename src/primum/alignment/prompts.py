"""Prompts that a model answers by itself while it is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primum.alignment.encoded import EncodedData, Reader
from primum.alignment.rollouts import RolloutLoader
from primum.errors import UserError
from primum.language.chat import Message, Thinking, TooLong, render_prompt
from primum.language.formats import Conversation
from primum.language.source import Source


@dataclass(frozen=True)
class Prompt:
    """A templated prompt as token ids, with what rewards need to know of it."""

    input_ids: list[int]
    text: str
    row: Mapping[str, Any]
    id: str
    number: int


class PromptData(EncodedData[Prompt]):
    """Batches of prompts; the module turns them into answers before it learns from them.

    Args:
        batch_size: Prompts in one micro-batch; each is answered a group's number of times.
        system: A system turn put before every prompt that has none, e.g. to ask for the
            think/answer format.
        max_length: Longest prompt in tokens; longer ones are left out and counted.
        others: As in `EncodedData`.
    """

    def __init__(
        self,
        model: Source,
        train: Reader,
        batch_size: int = 4,
        thinking: Thinking = "keep",
        system: str | None = None,
        max_length: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model, train, None, batch_size, max_length, seed, packing=None, group_by_length=False
        )
        self.thinking, self.system = thinking, system
        self.seen = 0

    def encode(self, tokenizer: Any, conversation: Conversation) -> Prompt:
        """A conversation up to its last answer, which is left out.

        Raises:
            TooLong: It does not fit.
        """
        turns: list[Message] = list(conversation.messages)
        if self.system is not None and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": self.system})
        text = render_prompt(tokenizer, turns, thinking=self.thinking)
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) > self.max_length:
            raise TooLong(f"The prompt has {len(ids)} tokens, more than {self.max_length}")
        asked = [turn["content"] for turn in turns if turn["role"] == "user"]
        if not asked:
            raise UserError("A prompt needs a user's turn")
        self.seen += 1
        return Prompt(ids, asked[-1], conversation.extra, conversation.id, self.seen)

    def size(self, example: Prompt) -> int:
        return len(example.input_ids)

    def train_dataloader(self) -> RolloutLoader:
        loader = self.loader(RolloutLoader)
        assert isinstance(loader, RolloutLoader)
        return loader

    def collate(self, examples: Sequence[Prompt]) -> dict[str, Any]:
        return {"prompts": list(examples), "ids": [one.id for one in examples]}

    def weigh(self, batch: dict[str, Any]) -> float:
        """Set by the module, which knows the answers."""
        return float(batch["divisor"])
