"""GRPO: answers come in the loop, better ones become likelier, equal ones teach nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.alignment.talk import Letter, asked, trainer, weights
from torch.testing import assert_close

from primum.alignment.grpo import GRPOModule
from primum.alignment.objectives.lagrangian import Multiplier
from primum.alignment.prompts import PromptData
from primum.alignment.rollouts import LocalSampler
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.judges.rewards.reward import Attempt, Part, RewardSet
from primum.language.lora import Lora
from primum.language.source import Source

SGD = partial(torch.optim.SGD, lr=0.5)
ADAM = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(str(make_tiny(tmp_path_factory.mktemp("tiny") / "m", "qwen3")), dtype="float32")


@dataclass
class Same:
    """The same for everybody."""

    value: float = 1.0
    name: str = "same"

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        return [self.value] * len(attempts)


def tuned(source: Source, reward: Any = None, **options: Any) -> GRPOModule:
    torch.manual_seed(0)
    given = {"optimizer": SGD, "group": 4, "sampler": LocalSampler(8, batch_size=6), **options}
    return GRPOModule(source, rewards=RewardSet({"it": Part(reward or Letter())}), **given)


class Kept:
    """Remembers the batches a module was given."""

    def __init__(self, module: GRPOModule) -> None:
        self.batches: list[dict[str, Any]] = []
        step = module.training_step

        def kept(batch: dict[str, Any], batch_idx: int) -> Any:
            self.batches.append(batch)
            return step(batch, batch_idx)

        module.training_step = kept  # type: ignore[method-assign]


@pytest.mark.seconds
def test_what_is_rewarded_becomes_more_frequent(source: Source) -> None:
    module = tuned(source, optimizer=ADAM, group=8, warmup=0.0)
    kept = Kept(module)
    trainer(max_epochs=25).fit(module, datamodule=PromptData(source, asked, batch_size=4))
    rewards = [batch["figures"]["reward"] for batch in kept.batches]
    assert sum(rewards[-5:]) > sum(rewards[:5]) + 0.5
    shares = [batch["figures"]["sampling_share"] for batch in kept.batches]
    assert all(0 < share <= 1 for share in shares[1:])


@pytest.mark.parametrize("kind", ["grpo", "dapo"])
def test_equal_rewards_leave_the_weights_alone(source: Source, kind: Any) -> None:
    module = tuned(source, Same(0.7), kind=kind)
    module.configure_model()
    before = weights(module)
    kept = Kept(module)
    trainer(max_epochs=1).fit(module, datamodule=PromptData(source, asked))
    assert torch.equal(weights(module), before)
    assert kept.batches[0]["figures"]["equal_groups"] == 1.0


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo", "gspo", "cispo"])
def test_accumulation_does_not_change_the_step(source: Source, kind: Any) -> None:
    def learned(batch_size: int, accumulate: int) -> torch.Tensor:
        module = tuned(source, kind=kind, warmup=0.0)
        data = PromptData(source, asked, batch_size=batch_size)
        trainer(max_epochs=2, accumulate_grad_batches=accumulate).fit(module, datamodule=data)
        return weights(module)

    assert_close(learned(4, 1), learned(1, 4), rtol=0, atol=2e-6)


def test_sampling_follows_from_the_seed_and_not_from_the_batch(source: Source) -> None:
    def answers(size: int) -> list[list[str]]:
        module = tuned(source)
        module.configure_model()
        module.trainer = trainer()
        data = PromptData(source, asked)
        data.setup("fit")
        sampler = LocalSampler(8, batch_size=size)
        groups = sampler.sample(module, data.examples["train"], 3, seed=5)
        assert module.model.training and all(len(group) == 3 for group in groups)
        return [[one.text for one in group] for group in groups]

    whole = answers(12)
    assert answers(5) == whole and len({text for group in whole for text in group}) > 4


@pytest.mark.seconds
def test_the_kl_pulls_back_to_the_reference(source: Source) -> None:
    base = source.model()
    start = torch.cat([one.detach().flatten() for one in base.parameters()])
    moved = []
    gently = partial(torch.optim.SGD, lr=0.1)
    for beta in (0.0, 1.0):
        module = tuned(source, optimizer=gently, beta=beta, reference="copy", warmup=0.0)
        trainer(max_epochs=20).fit(module, datamodule=PromptData(source, asked))
        now = torch.cat([one.detach().flatten() for one in module.model.parameters()])
        moved.append(float((now - start).norm()))
    assert 0 < moved[1] < 0.8 * moved[0], moved


@pytest.mark.seconds
def test_an_adapter_switched_off_is_the_reference(source: Source) -> None:
    learned = []
    for reference in ("adapter_off", "copy"):
        module = tuned(source, beta=0.5, reference=reference, adapter=Lora(rank=4), warmup=0.0)
        trainer(max_epochs=3).fit(module, datamodule=PromptData(source, asked))
        learned.append(weights(module))
    assert_close(learned[0], learned[1], rtol=1e-4, atol=1e-6)


@pytest.mark.seconds
def test_the_multiplier_rises_while_answers_cost_too_much(source: Source) -> None:
    values = {}
    for threshold in (-1.0, 2.0):
        module = tuned(
            source,
            costs=RewardSet({"same": Part(Same(0.5))}),
            multiplier=Multiplier(threshold=threshold, window=2),
        )
        trainer(max_epochs=4).fit(module, datamodule=PromptData(source, asked))
        assert module.multiplier is not None
        values[threshold] = module.multiplier.value
        assert "multiplier.log_value" in module.state_dict()
    assert values[2.0] < 1.0 < values[-1.0]
    with pytest.raises(UserError, match="come together"):
        tuned(source, multiplier=Multiplier())


@pytest.mark.seconds
def test_a_cost_turns_the_reward_around(source: Source) -> None:
    """With a large multiplier what is rewarded and costly becomes rarer."""
    module = tuned(
        source, optimizer=ADAM, group=8, warmup=0.0,
        costs=RewardSet({"letter": Part(Letter())}),
        multiplier=Multiplier(threshold=0.0, initial=20.0, largest=20.0),
    )  # fmt: skip
    kept = Kept(module)
    trainer(max_epochs=15).fit(module, datamodule=PromptData(source, asked, batch_size=4))
    costs = [batch["figures"]["cost"] for batch in kept.batches]
    assert sum(costs[-5:]) < sum(costs[:5])


def test_answers_that_were_cut_can_be_left_out(source: Source) -> None:
    module = tuned(source, learn_cut=False)
    kept = Kept(module)
    trainer(max_epochs=1).fit(module, datamodule=PromptData(source, asked, batch_size=4))
    batch = kept.batches[0]
    finished = int((batch["token_weights"] > 0).sum())
    assert batch["figures"]["cut"] == pytest.approx(1 - finished / 16)


def test_a_prompt_that_leaves_no_room_is_an_error_and_a_long_one_is_left_out(
    source: Source,
) -> None:
    with pytest.raises(UserError, match=r"(?s)model's context of 2048.*data\.max_length=48"):
        module = tuned(source, sampler=LocalSampler(2000))
        trainer(max_epochs=1).fit(
            module, datamodule=PromptData(source, partial(asked, 2), system="care " * 30)
        )
    data = PromptData(source, asked, max_length=5)
    with pytest.raises(UserError, match="4 longer than"):
        data.setup("fit")


def test_an_answer_of_a_stop_token_alone_is_an_answer(source: Source, tmp_path: Path) -> None:
    from primum.alignment.rollouts import decoded

    tokenizer = source.tokenizer()
    stop = tokenizer.eos_token_id
    empty = decoded(tokenizer, [stop], {stop})
    assert empty.finished and empty.text == "" and empty.ids == (stop,)
    module = tuned(source)
    module.configure_model()
    data = PromptData(source, asked)
    data.setup("fit")
    prompts = data.examples["train"][:1]
    full = decoded(tokenizer, [20, 21, stop], {stop})
    batch = module.batch(prompts, [[empty, full, empty, full]], torch.tensor([1.0, -1, 1, -1]))
    assert batch["targets"].tolist() == [stop, 20, 21, stop, stop, 20, 21, stop]
    assert batch["sequences"] == 4 and batch["divisor"] == 8.0
