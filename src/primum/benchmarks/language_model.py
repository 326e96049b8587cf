"""Weights that answer in this process, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from primum.benchmarks.cases import Case, sha256_of
from primum.benchmarks.subjects import Answer, Likelihood, Settings

if TYPE_CHECKING:
    from primum.language.formats import Conversation
    from primum.language.source import Source


class LanguageModel:
    """Weights run in this process through transformers; an adapter is put on its base."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.network: Any = None

    @cached_property
    def tokenizer(self) -> Any:
        """Read once, without the weights."""
        return self.source.tokenizer()

    def load(self) -> None:
        """Read the weights, once."""
        if self.network is None:
            self.network = self.source.model()

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """Generate greedily (temperature 0) or sample with a fixed seed."""
        from primum.language.generate import generate

        self.load()
        # batches are answered apart: were they to share a seed, they would share their luck
        luck = int(sha256_of([settings.seed, cases[0].id])[:8], 16)
        made = generate(
            self.network,
            self.tokenizer,
            [conversation(case) for case in cases],
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            temperature=settings.temperature,
            seed=luck,
        )
        return [Answer(one.text, one.finish, one.seconds, len(one.token_ids)) for one in made]

    def score(self, cases: Sequence[Case]) -> list[Likelihood]:
        """Likelihood of each reference as the next assistant turn, its end-of-turn included."""
        from primum.language.generate import completion_logprobs

        self.load()
        conversations = [conversation(case, answered=True) for case in cases]
        found = completion_logprobs(
            self.network, self.tokenizer, conversations, batch_size=max(1, len(cases))
        )
        return [Likelihood(float(one.sum_logprob), int(one.num_tokens)) for one in found]


def conversation(case: Case, *, answered: bool = False) -> Conversation:
    """A case as the language room takes it, with its reference as the assistant's turn if asked."""
    from primum.language.formats import Conversation

    turns = tuple(dict(message) for message in case.messages)
    if answered:
        turns += ({"role": "assistant", "content": str(case.reference)},)
    return Conversation(
        id=case.id, messages=turns, rejected=None, file="", row=0, extra=dict(case.tags)
    )
