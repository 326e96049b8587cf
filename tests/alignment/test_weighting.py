"""Rows and tokens weigh what clinicians' scores and edits say."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.alignment.talk import conversation, pairs, trainer, weights
from torch.testing import assert_close

from primum.alignment.buckets import mixed
from primum.alignment.conversations import ConversationData, learned_weights
from primum.alignment.sft import SFTModule
from primum.alignment.twin_views import judgements, preferences, prompts
from primum.alignment.weighting import Edits, Rubric
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.language.formats import Conversation
from primum.language.source import Source


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(str(make_tiny(tmp_path_factory.mktemp("tiny") / "m", "llama")), dtype="float32")


@pytest.mark.parametrize(
    ("extra", "weight"),
    [
        ({"rubric": 5}, 1.0),
        ({"rubric": 3}, 0.25),
        ({"rubric": {"utility": 5, "reasoning": 4, "terms": None}}, (3.5 / 4) ** 2),
        ({"rubric": 1}, 0.1),
        ({}, 0.7),
        ({"rubric": 5, "veto": True}, 0.0),
    ],
)
def test_a_row_weighs_its_rubric(extra: dict[str, Any], weight: float) -> None:
    rubric = Rubric(gamma=2.0, floor=0.1, unscored=0.7)
    assert rubric.weight(conversation(1, **extra)) == pytest.approx(weight)


@pytest.mark.parametrize("score", [0, 6, "good", {"utility": 9}])
def test_a_score_off_the_scale_is_named(score: Any) -> None:
    with pytest.raises(UserError, match=r"(?s)from 1 to 5.*sums\.jsonl, row 2"):
        Rubric().weight(conversation(1, rubric=score))


@pytest.mark.parametrize("packing", [None, 256])
def test_words_that_an_edit_brought_weigh_more(source: Source, packing: int | None) -> None:
    answer = "Take 50 mg daily, and call your doctor."
    start = answer.index("50")
    talk = Conversation(
        "a", ({"role": "user", "content": "How?"}, {"role": "assistant", "content": answer}),
        None, "f", 1, {"edited": [[start, start + 5]], "weight": 0.5},
    )  # fmt: skip
    data = ConversationData(
        source, lambda: [talk], emphasis=Edits(2.0), packing=packing, max_length=256
    )
    data.setup("fit")
    batch = data.collate(data.examples["train"])
    tokenizer = source.tokenizer()
    found = learned_weights(batch)
    ids = batch["targets"] if packing else batch["labels"][batch["labels"] != -100]
    heavy = tokenizer.decode(ids[found == 1.5])
    assert "50" in heavy and "mg" in heavy and "daily" not in heavy and "Take" not in heavy
    assert set(found.tolist()) == {0.5, 1.5}


def test_an_edit_outside_the_answer_is_named(source: Source) -> None:
    bad = conversation(3, edited=[[0, 999]])
    with pytest.raises(UserError, match=r"(?s)does not lie in the answer.*sums\.jsonl, row 4"):
        ConversationData(source, lambda: [bad], emphasis=Edits()).setup("fit")


def test_a_row_of_weight_0_teaches_nothing(source: Source) -> None:
    def learned(rows: list[Conversation]) -> torch.Tensor:
        torch.manual_seed(0)
        module = SFTModule(source, partial(torch.optim.SGD, lr=0.1), warmup=0.0)
        data = ConversationData(source, lambda: rows, batch_size=4, emphasis=[Rubric()])
        trainer(max_epochs=1).fit(module, datamodule=data)
        return weights(module)

    good = [conversation(n, rubric=5) for n in range(3)]
    vetoed = conversation(9, rubric=5, veto=True)
    assert_close(learned([*good, vetoed]), learned(good), rtol=0, atol=1e-6)


def test_packed_rows_teach_what_padded_ones_do(source: Source) -> None:
    def learned(packing: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        module = SFTModule(source, partial(torch.optim.SGD, lr=0.1), warmup=0.0)
        data = ConversationData(
            source, pairs, batch_size=12, packing=packing, max_length=128, emphasis=Rubric()
        )
        trainer(max_epochs=2).fit(module, datamodule=data)
        return weights(module)

    assert_close(learned(128), learned(None), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", ["nll", "dft"])
def test_noise_and_other_losses_still_learn(source: Source, loss: Any) -> None:
    torch.manual_seed(0)
    module = SFTModule(
        source, partial(torch.optim.AdamW, lr=0.01), loss=loss, noise=5.0, checkpointing=True
    )
    data = ConversationData(source, pairs, pairs, batch_size=4)
    run = trainer(max_epochs=6)
    run.fit(module, datamodule=data)
    assert run.callback_metrics["val/loss"] < 3.0  # 6.4 at the start


def test_buckets_are_mixed_by_share_and_named() -> None:
    buckets = {"many": partial(pairs, 40), "few": lambda: [conversation(n) for n in range(4)]}
    whole = mixed(buckets)
    assert len(whole) == 44 and {row.extra["bucket"] for row in whole} == {"many", "few"}
    mixture = mixed(buckets, {"many": 0.5, "few": 0.5}, total=20, seed=1)
    counts = [sum(row.extra["bucket"] == name for row in mixture) for name in buckets]
    assert counts == [10, 10]
    assert len({row.id for row in mixture if row.extra["bucket"] == "few"}) == 10
    assert mixed(buckets, {"many": 0.5, "few": 0.5}, total=20, seed=1) == mixture
    assert len(mixed(buckets, {"many": 0.8, "few": 0.2})) == 20
    with pytest.raises(UserError, match="share above 0"):
        mixed(buckets, {"many": 1.0})


def test_the_twins_prefer_a_refusal_where_it_is_due_and_help_where_it_is() -> None:
    rows = preferences("validation")
    unsafe = next(row for row in rows if row.extra["kind"] == "unsafe")
    benign = next(row for row in rows if row.id == unsafe.id.replace("unsafe", "benign"))
    assert unsafe.rejected is not None and benign.rejected is not None
    assert unsafe.rejected[0] == benign.messages[-1] and benign.rejected[0] == unsafe.messages[-1]
    judged = judgements("validation")
    assert len(judged) == 2 * len(rows) == 2 * len(prompts("validation"))
    assert sum(row.extra["label"] for row in judged) == len(rows)
    assert len({row.id for row in judged}) == len(judged)


def test_a_model_in_4_bits_is_tuned_by_adapter(tmp_path: Path) -> None:
    name = str(make_tiny(tmp_path / "m", "llama", hidden=64))
    source = Source(name, dtype="float32", quantise="nf4")
    torch.manual_seed(0)
    from primum.language.lora import Lora

    module = SFTModule(source, partial(torch.optim.AdamW, lr=0.01), adapter=Lora(rank=8))
    data = ConversationData(source, pairs, pairs, batch_size=4)
    run = trainer(max_epochs=3)
    run.fit(module, datamodule=data)
    layer = module.model.get_base_model().model.layers[0].self_attn.q_proj
    assert layer.base_layer.weight.dtype == torch.uint8
    assert run.callback_metrics["val/loss"] < 4.5
    with pytest.raises(UserError, match="nf4 or int8"):
        Source(name, quantise="nf3").model()  # type: ignore[arg-type]
