"""Answers by the model in training: sampled in batches with a cache, then laid in trees."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from primum.errors import UserError
from primum.language.batches import pad_id
from primum.language.chat import Encoded
from primum.language.generate import continuations, stop_ids
from primum.language.packing import Tree
from primum.training.loading import ResumableLoader
from primum.training.strategies import shards_parameters

if TYPE_CHECKING:
    from primum.alignment.prompts import Prompt

Sharded = Literal["gather", "together"]


class RolloutLoader(ResumableLoader):
    """Lets the module answer the prompts of one optimizer step before they are weighed."""

    def prepared(self, window: list[Any]) -> list[Any]:
        module: Any = self.trainer.lightning_module
        return module.roll_out(window)


@dataclass(frozen=True)
class Answer:
    """A sampled answer: its tokens, the stop token included, its text without, how it ended."""

    ids: tuple[int, ...]
    text: str
    finished: bool


class Sampler(Protocol):
    """Whoever writes the answers."""

    def sample(
        self, module: Any, prompts: Sequence[Prompt], group: int, seed: int
    ) -> list[list[Answer]]:
        """`group` answers to each prompt."""
        ...


@dataclass(frozen=True)
class LocalSampler:
    """The model in training itself.

    Args:
        max_new_tokens: Longest answer.
        temperature: Logits are divided by it.
        batch_size: Answers written at a time.
        sharded: Under ZeRO-3, `gather` all parameters on every rank for the time of writing (fast;
            the whole model must fit into each device), or write `together`, layer by layer.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    batch_size: int = 32
    sharded: Sharded = "gather"

    def sample(
        self, module: Any, prompts: Sequence[Prompt], group: int, seed: int
    ) -> list[list[Answer]]:
        """`group` answers to each prompt; what is drawn follows from seed, prompt and number alone.

        Raises:
            UserError: A prompt and the longest answer do not fit into the model's context.
        """
        self.fits(module.model, prompts)
        stops = torch.tensor(stop_ids(module.model, module.tokenizer), device=module.device)
        jobs = [(prompt, number) for prompt in prompts for number in range(group)]
        order = sorted(range(len(jobs)), key=lambda one: -len(jobs[one][0].input_ids))
        answers: dict[int, Answer] = {}
        with writing(module, self.sharded) as anybody:
            batches = [
                order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)
            ]
            rounds = most(len(batches), module) if anybody is not None else len(batches)
            for turn in range(rounds):
                batch = batches[turn] if turn < len(batches) else []
                ids = [jobs[one][0].input_ids for one in batch]
                draws = [generator(seed, jobs[one], module.device) for one in batch]
                if not batch:  # this rank has less to write than another
                    ids, draws = [prompts[0].input_ids], [generator(seed, jobs[0], module.device)]
                written = continuations(
                    module.model, ids, stops, pad_id(module.tokenizer), self.max_new_tokens,
                    self.temperature, draws, anybody,
                )  # fmt: skip
                for one, tokens in zip(batch, written, strict=False):
                    answers[one] = decoded(module.tokenizer, tokens, set(stops.tolist()))
        return [
            [answers[at * group + number] for number in range(group)] for at in range(len(prompts))
        ]

    def fits(self, model: Any, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that leave no room for an answer."""
        context = getattr(model.config, "max_position_embeddings", None)
        for prompt in prompts:
            if context is not None and len(prompt.input_ids) + self.max_new_tokens > context:
                raise UserError(
                    f"The prompt `{prompt.id}` has {len(prompt.input_ids)} tokens and its answer "
                    f"may have {self.max_new_tokens}, more than the model's context of {context}",
                    remedy=f"data.max_length={max(1, context - self.max_new_tokens)}, or shorter "
                    "answers: module.sampler.max_new_tokens",
                )


def decoded(tokenizer: Any, ids: Sequence[int], stops: set[int]) -> Answer:
    """An answer's text, without its stop token."""
    finished = bool(ids) and ids[-1] in stops
    text = tokenizer.decode(
        list(ids[:-1] if finished else ids), skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    return Answer(tuple(ids), str(text), finished)


def generator(seed: int, job: tuple[Prompt, int], device: Any) -> torch.Generator:
    """Randomness for one answer to one prompt in one step."""
    import numpy as np

    prompt, number = job
    state = np.random.SeedSequence([seed, prompt.number, number]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(state[0] >> 1))


@contextmanager
def writing(module: Any, sharded: Sharded) -> Iterator[Any]:
    """The model ready to write: no gradients, no dropout; all of it here, or all ranks together."""
    strategy = module.trainer.strategy
    split = shards_parameters(module.trainer)
    together = split and sharded == "together"
    whole = strategy.whole_parameters(module.model) if split and not together else nullcontext()
    training = module.model.training
    with whole, torch.no_grad():  # and no inference mode, whose tensors ZeRO could not train
        module.model.eval()
        try:
            yield Anybody(module) if together else None
        finally:
            module.model.train(training)


class Anybody:
    """Whether any rank goes on, known to all."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, going: bool) -> bool:
        said = torch.tensor(float(going), device=self.module.device)
        return float(self.module.trainer.strategy.reduce(said, reduce_op="sum")) > 0


def most(number: int, module: Any) -> int:
    """The largest of the ranks' numbers."""
    said = torch.tensor(float(number), device=module.device)
    return int(module.trainer.strategy.reduce(said, reduce_op="max"))


def tree(prompt: Sequence[int], answers: Sequence[Answer]) -> Tree:
    """One prompt and its answers, all of whose tokens are learned."""
    trunk = Encoded(list(prompt), [False] * len(prompt))
    branches = (Encoded(list(one.ids), [True] * len(one.ids)) for one in answers)
    return Tree(trunk, tuple(branches))


class Stopwatch:
    """Seconds spent inside, and since the last reading."""

    def __init__(self) -> None:
        self.inside, self.since = 0.0, time.perf_counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time in here."""
        start = time.perf_counter()
        yield
        self.inside += time.perf_counter() - start

    def share(self) -> float:
        """Of the time since the last reading, the share spent inside; starts anew."""
        now = time.perf_counter()
        share = self.inside / max(now - self.since, 1e-9)
        self.inside, self.since = 0.0, now
        return share
