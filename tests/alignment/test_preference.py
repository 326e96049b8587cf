"""Preference tuning learns the preference, counts right, and compares with the right reference."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.alignment.talk import conversation, labelled, pairs, trainer, weights
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification

from primum.alignment.answers import LabelledData, PreferenceData
from primum.alignment.objectives import preference as dpo
from primum.alignment.objectives import sequence_logprobs
from primum.alignment.preference import KTOModule, PreferenceModule
from primum.alignment.reward import CostModule, LearnedReward, RewardModule, scores
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.judges.rewards.reward import Attempt
from primum.language.formats import Conversation
from primum.language.lora import Lora
from primum.language.source import Source

SGD = partial(torch.optim.SGD, lr=0.2)
ADAM = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(str(make_tiny(tmp_path_factory.mktemp("tiny") / "m", "llama")), dtype="float32")


def tuned(source: Source, kind: Any = PreferenceModule, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(source, **({"optimizer": SGD} | options))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.seconds
def test_the_chosen_answers_become_the_likelier_ones(source: Source, share: bool) -> None:
    module = tuned(source, optimizer=ADAM, adapter=Lora(rank=4))
    data = PreferenceData(source, pairs, pairs, batch_size=4, share_prompts=share)
    run = trainer(max_epochs=6)
    run.fit(module, datamodule=data)
    assert run.callback_metrics["val/preferred"] == 1.0
    assert run.callback_metrics["val/loss"] < 0.3  # log 2 at the start


def test_sharing_prompts_changes_nothing_but_the_work(source: Source) -> None:
    learned, work = [], []
    for share in (True, False):
        module = tuned(source, reference="cached")
        data = PreferenceData(
            source, pairs, batch_size=3, share_prompts=share, group_by_length=False
        )
        trainer(max_epochs=1).fit(module, datamodule=data)
        learned.append(weights(module))
        work.append(data.collate(data.examples["train"])["input_ids"].numel())
        assert module.tokens_in(data.collate(data.examples["train"])) == sum(
            len(one.first.input_ids) + len(one.second.input_ids) for one in data.examples["train"]
        )
    assert_close(learned[0], learned[1], rtol=1e-5, atol=1e-5)
    assert work[0] < 0.75 * work[1]


@pytest.mark.parametrize("adapter", [None, Lora(rank=4)], ids=["full", "lora"])
@pytest.mark.seconds
def test_every_reference_is_the_same_reference(source: Source, adapter: Lora | None) -> None:
    kinds = ["cached", "copy"] + (["adapter_off"] if adapter else [])
    learned = []
    for kind in kinds:
        module = tuned(source, adapter=adapter, reference=kind)
        data = PreferenceData(source, pairs, batch_size=4)
        trainer(max_epochs=2).fit(module, datamodule=data)
        learned.append(weights(module))
    for other in learned[1:]:
        assert_close(other, learned[0], rtol=1e-5, atol=1e-6)


def test_accumulation_does_not_change_what_is_preferred(source: Source) -> None:
    def learned(batch_size: int, accumulate: int) -> torch.Tensor:
        module = tuned(source, reference="cached")
        data = PreferenceData(source, pairs, batch_size=batch_size)
        trainer(max_epochs=1, accumulate_grad_batches=accumulate).fit(module, datamodule=data)
        return weights(module)

    assert_close(learned(6, 1), learned(2, 3), rtol=0, atol=2e-6)


def test_cached_words_of_the_reference_are_found_again(source: Source, tmp_path: Path) -> None:
    def fitted() -> Any:
        module = tuned(source, reference="cached", reference_folder=str(tmp_path))
        trainer(max_epochs=1).fit(module, datamodule=PreferenceData(source, pairs, batch_size=5))
        return module

    first = fitted()
    (file,) = tmp_path.glob("*.safetensors")
    made = file.stat().st_mtime_ns
    second = fitted()
    assert file.stat().st_mtime_ns == made
    assert_close(weights(second), weights(first), rtol=0, atol=0)


def test_a_resumed_run_keeps_the_reference_it_began_with(source: Source, tmp_path: Path) -> None:
    module = tuned(source, reference="cached")
    data = PreferenceData(source, pairs, batch_size=4)
    run = trainer(max_epochs=1)
    run.fit(module, datamodule=data)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    later = tuned(source, reference="cached")
    later.on_load_checkpoint(checkpoint)
    later.configure_model()
    later.model.load_state_dict(module.model.state_dict())  # no longer the reference
    later.trainer = run
    later.on_fit_start()
    assert_close(later.cache.values["train"], module.cache.values["train"], rtol=0, atol=0)
    other = PreferenceData(source, lambda: pairs(11), batch_size=4)
    other.setup("fit")
    with pytest.raises(UserError, match="not the one this run began with"):
        later.cache.prepare(later, other)


@pytest.mark.parametrize(
    ("objective", "reference", "nll"),
    [
        (dpo.ipo, "cached", 0.0),
        (partial(dpo.offset, alpha=1.0), "cached", 0.2),
        (dpo.simpo, None, 0.0),
        (dpo.orpo, None, 0.0),
    ],
    ids=["ipo", "offset", "simpo", "orpo"],
)
def test_other_objectives_lower_their_loss(
    source: Source, objective: Any, reference: Any, nll: float
) -> None:
    module = tuned(source, optimizer=ADAM, objective=objective, reference=reference, nll=nll)
    data = PreferenceData(source, pairs, pairs, batch_size=4)
    run = trainer(max_epochs=4)
    run.fit(module, datamodule=data)
    after = float(run.callback_metrics["val/loss"])
    before = tuned(source, optimizer=ADAM, objective=objective, reference=reference, nll=nll)
    start = trainer()
    start.validate(before, datamodule=data, verbose=False)
    assert after < float(start.callback_metrics["val/loss"])


def test_an_objective_without_its_reference_says_so(source: Source) -> None:
    module = tuned(source, reference=None)
    with pytest.raises(UserError, match=r"module\.reference=auto"):
        trainer(max_epochs=1).fit(module, datamodule=PreferenceData(source, pairs))
    with pytest.raises(UserError, match="nothing to switch off"):
        tuned(source, reference="adapter_off")


def test_kto_learns_which_answers_were_found_good(source: Source) -> None:
    module = tuned(source, KTOModule, optimizer=ADAM, beta=0.5)
    data = LabelledData(source, labelled, labelled, batch_size=6)
    run = trainer(max_epochs=8)
    run.fit(module, datamodule=data)
    assert run.callback_metrics["val/preferred"] > 0.8
    assert run.callback_metrics["val/loss"] < 0.4  # one half at the start


def test_kto_puts_the_next_rows_answer_to_each_prompt(source: Source) -> None:
    data = LabelledData(source, labelled)
    data.setup("fit")
    tokenizer = source.tokenizer()
    one = data.examples["train"][3]
    text = tokenizer.decode(one.second.input_ids)
    assert "What is 3 and 3?" in text and "It is 8." in text and "It is 6." not in text
    assert data.made_from(one) == ("sum-3", "sum-4")


def row(**changes: Any) -> list[Conversation]:
    made = conversation(7, **changes.pop("extra", {}))
    return [Conversation(**{**made.__dict__, **changes})]


@pytest.mark.parametrize(
    ("data", "rows", "said"),
    [
        (PreferenceData, row(rejected=None), "no rejected answer"),
        (PreferenceData, row(rejected=(conversation(7).messages[-1],)), "are the same"),
        (PreferenceData, row(rejected=({"role": "assistant", "content": " "},)), "answer is empty"),
        (PreferenceData, row(extra={"margin": "wide"}), "`margin` is a number"),
        (LabelledData, row(extra={"label": "maybe"}), "`label` is true or false"),
        (LabelledData, row(), "`label` is true or false"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(source: Source, data: Any, rows: Any, said: str) -> None:
    with pytest.raises(UserError, match=rf"(?s){said}.*sums\.jsonl, row 8"):
        data(source, lambda: rows).setup("fit")


def test_a_loss_that_is_no_number_stops_with_its_batch(source: Source, tmp_path: Path) -> None:
    from safetensors import safe_open

    module = tuned(source, reference=None, objective=lambda pairs: pairs.chosen * float("nan"))
    data = PreferenceData(source, pairs, batch_size=3)
    with pytest.raises(UserError, match=r"(?s)The loss of step 0 is nan.*nonfinite"):
        trainer(max_epochs=1, default_root_dir=tmp_path).fit(module, datamodule=data)
    (file,) = tmp_path.glob("nonfinite/step000000-rank0.safetensors")
    with safe_open(file, "pt") as kept:
        assert "input_ids" in kept.keys() and len(kept.metadata()["ids"].split("\n")) == 3  # noqa: SIM118


# ── Reward and cost models ───────────────────────────────────────────────────


@pytest.mark.parametrize("adapter", [None, Lora(rank=4)], ids=["full", "lora"])
def test_a_reward_model_learns_the_order_and_loads_without_us(
    source: Source, tmp_path: Path, adapter: Lora | None
) -> None:
    module = tuned(source, RewardModule, optimizer=ADAM, adapter=adapter)
    data = PreferenceData(source, pairs, pairs, batch_size=4)
    run = trainer(max_epochs=5)
    run.fit(module, datamodule=data)
    assert run.callback_metrics["val/preferred"] == 1.0
    module.save_pretrained(tmp_path, module.state_dict())
    plain = AutoModelForSequenceClassification.from_pretrained(
        source.name if adapter else tmp_path, num_labels=1
    )
    if adapter:
        plain = PeftModel.from_pretrained(plain, tmp_path)
    one = data.examples["train"][3]
    batch = data.collate([one])
    ours = scores(module.model.eval(), batch)
    theirs = [
        plain.eval()(torch.tensor([side.input_ids])).logits.item()
        for side in (one.first, one.second)
    ]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-5)


def test_padded_and_shared_scores_agree(source: Source) -> None:
    module = tuned(source, RewardModule)
    module.configure_model()
    batches = []
    for share in (True, False):
        data = PreferenceData(source, pairs, share_prompts=share)
        data.setup("fit")
        batches.append(data.collate(data.examples["train"][:5]))
    assert_close(*(scores(module.model, batch) for batch in batches), rtol=1e-5, atol=1e-5)


def test_a_cost_model_puts_harm_above_0_and_serves_as_a_reward(
    source: Source, tmp_path: Path
) -> None:
    module = tuned(source, CostModule, optimizer=ADAM)
    trainer(max_epochs=6).fit(module, datamodule=PreferenceData(source, pairs, batch_size=4))
    module.save_pretrained(tmp_path, module.state_dict())
    reward = LearnedReward(Source(str(tmp_path), dtype="float32"), name="cost")
    question = pairs()[2].messages[0]["content"]
    safe, harmful, empty = reward.score(
        [Attempt(question, text) for text in ("It is 4. Ask again. Ask again.", "No idea.", " ")]
    )
    assert safe is not None and harmful is not None
    assert safe < 0 < harmful and empty == -20.0


def test_log_probabilities_are_those_of_the_whole_answer(source: Source) -> None:
    data = PreferenceData(source, pairs)
    data.setup("fit")
    model = source.model()
    one = data.examples["train"][0]
    ids = torch.tensor([one.first.input_ids])
    every = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    wanted = every[torch.tensor(one.first.loss_mask[1:])].sum()
    module = tuned(source)
    module.configure_model()
    assert_close(sequence_logprobs(module.model, data.collate([one])).total()[0], wanted)
