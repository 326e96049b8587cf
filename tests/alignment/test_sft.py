"""Supervised fine-tuning learns what it is given, counts it right and leaves a plain directory."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning
import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from primum.alignment.conversations import ConversationData
from primum.alignment.emphasis import Emphasis
from primum.alignment.objectives import negative_log_likelihood, supervised_logits
from primum.alignment.sft import SFTModule
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.language.batches import collate
from primum.language.chat import encode
from primum.language.formats import Conversation
from primum.language.lora import Lora
from primum.language.source import Source


def talk(number: int) -> Conversation:
    messages = (
        {"role": "user", "content": f"What is {number} and {number}?"},
        {"role": "assistant", "content": f"It is {2 * number}." + " Ask again." * (number % 3)},
    )
    return Conversation(f"sum-{number}", messages, None, "sums", number + 1, {})


def talks() -> list[Conversation]:
    return [talk(number) for number in range(12)]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(str(make_tiny(tmp_path / "tiny", "llama")), dtype="float32")


def module(source: Source, **options: object) -> SFTModule:
    optimizer = partial(torch.optim.AdamW, lr=0.01)
    built = SFTModule(source, optimizer, **options)  # type: ignore[arg-type]
    built.configure_model()
    return built


def fit(module: SFTModule, data: ConversationData, **options: object) -> lightning.Trainer:
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_loss_is_the_models_own(tmp_path: Path, architecture: str) -> None:
    source = Source(str(make_tiny(tmp_path / "tiny", architecture)), dtype="float32")  # type: ignore[arg-type]
    tokenizer, model = source.tokenizer(), source.model()
    batch = collate([encode(tokenizer, talk(number).messages) for number in range(4)], 0)
    logits, targets = supervised_logits(model, **batch)
    ours = negative_log_likelihood(logits, targets) / len(targets)
    theirs = model(**batch).loss
    assert_close(ours, theirs)
    assert logits.shape[0] == int((batch["labels"] != -100).sum())


def test_training_lowers_the_loss_of_what_it_saw(source: Source) -> None:
    torch.manual_seed(0)
    data = ConversationData(source, talks, talks, batch_size=4)
    trainer = fit(module(source), data, max_epochs=8)
    (before,) = lightning.Trainer(logger=False, enable_progress_bar=False).validate(
        module(source), dataloaders=data.val_dataloader(), verbose=False
    )
    assert trainer.callback_metrics["val/loss"] < before["val/loss"] - 1.0


def test_only_the_adapter_moves_and_it_loads_without_us(source: Source, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = ConversationData(source, talks, batch_size=4)
    tuned = module(source, adapter=Lora(rank=4))
    base = {
        name: weight.clone()
        for name, weight in tuned.named_parameters()
        if not weight.requires_grad
    }
    fit(tuned, data, max_epochs=2)
    for name, weight in tuned.named_parameters():
        if name in base:
            assert torch.equal(weight, base[name])

    out = tmp_path / "out"
    out.mkdir()
    tuned.save_pretrained(out, tuned.state_dict())
    assert not list(out.glob("*.bin"))
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source.name), out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer.apply_chat_template(list(talk(3).messages), return_tensors="pt")["input_ids"]
    assert_close(plain(ids).logits, tuned.model.eval()(ids).logits)
    untuned = AutoModelForCausalLM.from_pretrained(source.name)(ids).logits
    assert (plain(ids).logits - untuned).abs().max() > 1e-3


def test_frozen_weights_stay_out_of_checkpoints(source: Source) -> None:
    tuned = module(source, adapter=Lora(rank=4))
    checkpoint = {"state_dict": tuned.state_dict()}
    tuned.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"]
    assert all("lora_" in name for name in checkpoint["state_dict"])


def test_accumulation_does_not_change_what_is_learned(source: Source) -> None:
    def weights(batch_size: int, accumulate: int) -> torch.Tensor:
        torch.manual_seed(0)
        tuned = SFTModule(source, partial(torch.optim.SGD, lr=0.5))
        data = ConversationData(source, talks, batch_size=batch_size)
        fit(tuned, data, max_epochs=1, accumulate_grad_batches=accumulate)
        return torch.cat([weight.flatten() for weight in tuned.parameters()])

    assert_close(weights(6, 1), weights(2, 3), rtol=0, atol=2e-6)


def test_rows_longer_than_the_limit_are_counted_and_none_left_is_an_error(source: Source) -> None:
    data = ConversationData(source, talks, max_length=8)
    with pytest.raises(UserError, match=r"12 read, 12 longer than max_length=8"):
        data.setup("fit")


def test_a_row_without_an_answer_is_named(source: Source) -> None:
    bad = Conversation("x", ({"role": "user", "content": "hello"},), None, "mine.jsonl", 7, {})
    data = ConversationData(source, lambda: [bad])
    with pytest.raises(UserError, match=r"mine\.jsonl, row 7"):
        data.setup("fit")


def test_opening_tokens_weigh_what_emphasis_says(source: Source) -> None:
    emphasis = Emphasis(opening=5.0, tokens=2, kinds={"benign": 2.0})
    data = ConversationData(source, talks, batch_size=2, emphasis=emphasis)
    data.setup("fit")
    batch = data.collate(data.examples["train"][:2])
    learned = batch["labels"] != -100
    assert torch.equal(batch["weights"] > 0, learned)
    for weights, mask in zip(batch["weights"], learned, strict=True):
        assert weights[mask].tolist() == [5.0, 5.0] + [1.0] * (int(mask.sum()) - 2)


def test_texts_beyond_the_models_context_are_refused(source: Source) -> None:
    long = talk(1)
    long.messages[0]["content"] += " please" * 2100
    data = ConversationData(source, lambda: [long, talk(2)], max_length=10_000)
    with pytest.raises(UserError, match=r"(?s)context of 2048.*data\.max_length=2048"):
        fit(module(source), data, max_epochs=1)


def test_twins_share_their_optimizer_step(source: Source) -> None:
    def twins() -> list[Conversation]:
        return [replace(talk(n), extra={"pair": f"pair-{n % 6}"}) for n in range(12)]

    seen: list[list[str]] = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            seen.append(batch["ids"])

    data = ConversationData(source, twins, batch_size=4, together="pair")
    fit(module(source, adapter=Lora(rank=2)), data, max_epochs=2, callbacks=[Watch()])
    assert len(seen) == 6
    for ids in seen:
        numbers = sorted(int(id.removeprefix("sum-")) for id in ids)
        assert [n + 6 for n in numbers[:2]] == numbers[2:]
