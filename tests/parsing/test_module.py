"""docvlm-tiny and its training: it sees what transformers sees, learns, resumes and shards."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.parsing.parity import LINE, TINY, WORD, fit
from tests.training.ranks import preload, printed, run

from primum.errors import UserError
from primum.parsing.data import Bundles, Folder, Stage, learned, synthetic
from primum.parsing.docvlm import IMAGE, TOKEN, DocVlmTiny
from primum.parsing.line_reader import STEPS, LineReader, line_truth
from primum.parsing.module import ParsingModule
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.samples import Encoder, Printed, Sample
from primum.parsing.synthesis.page import make_page
from primum.training.sampling import Draw

preload("tests.parsing.parity")


@pytest.fixture(scope="module")
def module() -> ParsingModule:
    made = ParsingModule(TINY, partial(torch.optim.AdamW, lr=3e-3), reading=1.0)
    made.configure_model()
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    made.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    return made


def words(count: int = 3) -> list[Sample]:
    return [synthetic(make_page(seed, WORD)) for seed in range(count)]


def test_the_full_size_is_as_promised() -> None:
    with torch.device("meta"):
        model = DocVlmTiny().model()
    assert 3e6 < sum(weight.numel() for weight in model.parameters()) < 7e6


def test_characters_come_back_as_they_were() -> None:
    tokenizer = TINY.tokenizer()
    text = "# A-1 (x)\n\n- 50 %  <table><tr><td>b</td></tr></table>\n\n$$\\frac{a}{b}$$"
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text) and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_the_loss_is_that_of_the_stock_forward(module: ParsingModule) -> None:
    batch = module.encoder(words())
    with torch.no_grad():
        logits, _ = module.answer_logits(batch)
        names = ("input_ids", "attention_mask", "pixel_values")
        whole = module.model(**{name: batch[name] for name in names}).logits
    known = batch["labels"][:, 1:] != -100
    expected = whole[:, :-1][known]
    kept = known[:, -logits.shape[1] :]
    assert kept.sum() == known.sum() == learned(batch)
    torch.testing.assert_close(logits[kept], expected, rtol=1e-3, atol=1e-4)


def test_labels_are_the_answer_and_its_end() -> None:
    encoder = Encoder(TINY.processor(), token=TOKEN)
    samples = words()
    batch = encoder(samples)
    for row, sample in zip(batch["labels"], samples, strict=True):
        text = encoder.tokenizer.decode(row[row != -100])
        assert text == sample.markdown + "<end>"
    visual = (batch["input_ids"] == IMAGE).sum(1)
    height, width = batch["pixel_values"].shape[-2:]
    assert (visual == height * width // 256).all()


@pytest.mark.parametrize("text", ["caffè", "日本"])
def test_what_cannot_be_spelt_is_named(text: str) -> None:
    encoder = Encoder(TINY.processor(), token=TOKEN)
    with pytest.raises(UserError, match="page 7"):
        encoder([Sample(Image.new("RGB", (32, 32)), text, id="page 7")])


def test_characters_stand_where_they_are_printed() -> None:
    truth = line_truth((40, 24), [(12.0, [(9.0, 5), (15.9, 6), (27.0, 7)])])
    assert truth.shape == (3, 5, STEPS)
    assert (truth[0] == -100).all() and (truth[2] == -100).all()
    flat = truth[1].flatten().tolist()
    assert flat == [-100] * 3 + [5, 0, 6] + [0] * 3 + [0, 7] + [-100] * 4


def test_letters_are_read_from_their_own_tokens_alone() -> None:
    torch.manual_seed(0)
    reader = LineReader(8, 20)
    features = torch.randn(2, 2, 3, 8, requires_grad=True)
    truth = torch.full((2, 4, 6, STEPS), -100)
    truth[1] = line_truth((48, 32), [(12.0, [(9.0, 5), (27.0, 7)])])
    loss, right = reader.loss(features, truth)
    loss.backward()
    assert features.grad is not None and 0 <= float(right) <= 1
    touched = features.grad.abs().sum(-1) > 0
    assert touched.nonzero().tolist() == [[1, 0, 0], [1, 0, 1]]


def test_a_letter_is_expected_of_the_step_it_stands_on() -> None:
    reader = LineReader(8, 20)
    truth = line_truth((32, 16), [(12.0, [(9.0, 5), (27.0, 7)])])[None]
    steps = torch.full((1, 1, 2, 2, 2, STEPS, 20), -9.0)  # row, column, down, across
    steps[..., 0] = 0.0
    steps[0, 0, 0, 1, 1, 0, 5] = steps[0, 0, 1, 1, 1, 1, 7] = 9.0
    reader.forward = lambda _: steps.flatten(0, 2)  # type: ignore[method-assign]
    loss, right = reader.loss(torch.zeros(1, 1, 2, 8), truth)
    assert float(right) == 1 and float(loss) < 0.05


def test_every_character_is_looked_for_where_it_stands() -> None:
    page = make_page(4, LINE)
    encoder = Encoder(TINY.processor(), token=TOKEN)
    sample = synthetic(page)
    batch = encoder([sample])
    across = batch["pixel_values"].shape[-1] // TOKEN
    first = batch["answer_from"]
    boxes = [run.box for placed in page.placed for run in placed.runs]
    for place, letter in enumerate(sample.markdown):
        look = int(batch["looks"][0, first + place])
        if letter.strip() and look != -100:
            x, y = (look % across + 0.5) * TOKEN, (look // across + 0.5) * TOKEN
            assert any(
                box.left - 16 <= x <= box.right + 16 and box.top - 16 <= y <= box.bottom + 16
                for box in boxes
            )
    assert int(batch["looks"][0, -1]) == -100  # the end is nowhere
    read = batch["read"][0]
    letters = [i for i in batch["labels"][0].tolist() if i > 0]
    assert set(read[read > 0].tolist()) <= set(letters)


def test_visual_tokens_know_which_one_is_read_before_them() -> None:
    markdown = "ab cd"
    lines = (Printed(0, 8.0, (4.0, 20.0)), Printed(3, 40.0, (4.0, 50.0)))  # on rows 0 and 2 of four
    sample = Sample(Image.new("RGB", (64, 64), "white"), markdown, lines)
    follows = Encoder(TINY.processor(), token=TOKEN)([sample])["follows"][0]
    assert follows[: 4 * 4].tolist() == [-100, 0] + [-100] * 6 + [1, -100, -100, 8] + [-100] * 4


def test_guided_heads_hear_the_forward_and_learn(module: ParsingModule) -> None:
    batch = module.encoder(words(2))
    assert module.guide is not None
    module.answer_logits(batch)
    loss, shares = module.guide.loss(batch["looks"], batch["follows"])
    assert loss.requires_grad and float(loss.detach()) > 0
    assert set(shares) == {"found", "followed"}
    assert all(0 <= float(share) <= 1 for share in shares.values())
    assert not module.guide.heard


@pytest.mark.seconds
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_fused_layers_give_the_same_gradients() -> None:
    gradients = []
    for compiled in (False, True):
        made = ParsingModule(TINY, torch.optim.AdamW, reading=1.0, compiled=compiled)
        made.configure_model()
        made.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
        batch = made.encoder(words(2)) | {"loss_scale": 0.1}
        made.training_step(batch, 0).backward()
        gradients.append({name: weight.grad for name, weight in made.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


def test_letters_alone_give_every_weight_a_gradient(module: ParsingModule) -> None:
    samples = [replace(sample, letters=True) for sample in words(2)]
    batch = module.encoder(samples) | {"loss_scale": 1.0}
    assert "input_ids" not in batch
    module.training_step(batch, 0).backward()
    assert all(weight.grad is not None for weight in module.parameters())
    still = module.model.model.language_model.layers[0].mlp.up_proj.weight.grad
    seen = module.model.model.vision_tower.timm_model.stem[0].weight.grad
    assert float(still.abs().sum()) == 0 and float(seen.abs().sum()) > 0
    module.zero_grad()


@pytest.mark.seconds
def test_training_reads_words_it_was_shown(module: ParsingModule) -> None:
    batch = module.encoder(words(2)) | {"loss_scale": 0.05}
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_stages_follow_the_epoch_and_bundles_the_draw() -> None:
    stages = [Stage(WORD, epochs=2, pages=3), Stage(LINE, epochs=1, pages=2)]
    bundles = Bundles(stages, 5, earlier=0.0)
    assert [bundles.stage(epoch) for epoch in range(5)] == [0, 0, 1, 1, 1]
    assert [len(bundles[Draw(0, epoch)]) for epoch in (0, 2)] == [3, 2]
    first, again, other = (bundles[Draw(1, epoch)] for epoch in (0, 0, 1))
    assert [one.markdown for one in first] == [one.markdown for one in again]
    assert [one.markdown for one in first] != [one.markdown for one in other]
    later = Bundles(stages, 5, earlier=0.0, begin=1)
    assert [one.markdown for one in later[Draw(1, 0)]] == [one.markdown for one in other]


def test_an_earlier_stage_comes_again_as_often_as_it_says() -> None:
    last = Stage(LINE, pages=1)
    stages = [Stage(WORD, pages=2, again=0), Stage(WORD, pages=3), Stage(WORD, pages=4, again=3)]
    mixed = Bundles([*stages, last], 200, earlier=0.5)
    counts = Counter(len(mixed[Draw(number, 3)]) for number in range(200))
    assert counts[2] == 0 and 75 < counts[1] < 125
    assert 1.5 < counts[4] / counts[3] < 6
    never = Bundles([stages[0], last], 20, earlier=1.0)
    assert all(len(never[Draw(number, 1)]) == 1 for number in range(20))


def test_it_is_saved_as_a_plain_directory_and_trained_on(
    module: ParsingModule, tmp_path: Path
) -> None:
    module.save_pretrained(tmp_path, module.state_dict())
    loaded = ParsingModule(PretrainedVlm(str(tmp_path), dtype="float32"), torch.optim.AdamW)
    loaded.configure_model()
    page = make_page(0, WORD)
    for one in (module, loaded):
        one.max_new_tokens = 12
    assert loaded.read([page.image]) == module.read([page.image])
    batch = loaded.encoder([synthetic(page)])
    logits, features = loaded.answer_logits(batch)
    assert features is None and logits.shape[1] >= learned(batch)
    with pytest.raises(UserError, match="line reader"):
        ParsingModule(PretrainedVlm(str(tmp_path)), torch.optim.AdamW, reading=1.0)


def test_training_goes_on_from_released_weights(module: ParsingModule, tmp_path: Path) -> None:
    module.save_pretrained(tmp_path, module.state_dict())
    again = replace(TINY, weights=str(tmp_path)).model().state_dict()
    old = module.model.state_dict()
    assert all(torch.equal(again[name], old[name]) for name in old)
    with pytest.raises(UserError, match="another size"):
        replace(TINY, weights=str(tmp_path), width=64, heads=4).model()
    with pytest.raises(UserError, match="no weights"):
        replace(TINY, weights=str(tmp_path / "nowhere")).model()


def test_a_lora_adapter_trains_alone(module: ParsingModule, tmp_path: Path) -> None:
    from primum.language.lora import Lora

    (tmp_path / "base").mkdir()
    module.save_pretrained(tmp_path / "base", module.state_dict())
    source = PretrainedVlm(str(tmp_path / "base"), dtype="float32")
    adapted = ParsingModule(source, torch.optim.AdamW, adapter=Lora(rank=2))
    adapted.configure_model()
    batch = adapted.encoder(words(1)) | {"loss_scale": 1.0}
    adapted.training_step(batch, 0).backward()
    trained = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
    assert trained and all("lora" in name for name in trained)
    checkpoint: dict[str, Any] = {"state_dict": adapted.state_dict()}
    adapted.on_save_checkpoint(checkpoint)
    assert all("lora" in name for name in checkpoint["state_dict"])


def test_folders_of_pages(tmp_path: Path) -> None:
    page = make_page(1, WORD)
    page.image.save(tmp_path / "one.png")
    with pytest.raises(UserError, match="no Markdown"):
        Folder(tmp_path)
    (tmp_path / "one.md").write_text(page.markdown)
    (sample,) = Folder(tmp_path)[0]
    assert sample.markdown == page.markdown
    (tmp_path / "one.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"one\.png"):
        Folder(tmp_path)[0]
    with pytest.raises(UserError, match="no pictures"):
        Folder(tmp_path / "empty")


def traces(folder: Path, *names: str) -> list[list[list[float]]]:
    return [json.loads((folder / f"{name}.json").read_text()) for name in names]


@pytest.mark.seconds
def test_a_resumed_run_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    fit({"folder": str(tmp_path), "name": "whole", "save_at": 5})
    fit({"folder": str(tmp_path), "name": "rest", "resume": str(tmp_path / "middle.ckpt")})
    whole, rest = traces(tmp_path, "whole", "rest")
    assert len(whole) == 16 and rest == whole[5:]


@pytest.mark.process
@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
def test_two_ranks_train_like_one(tmp_path: Path, strategy: str) -> None:
    fit({"name": "one", "folder": str(tmp_path), "accumulate": 2})
    plan = {"name": "two", "folder": str(tmp_path), "strategy": strategy, "devices": 2}
    run(fit, plan, ranks=2, folder=tmp_path)
    # an exit code may be spoilt by the interpreter's end; the trace is what counts
    assert (tmp_path / "two.json").is_file(), printed(tmp_path)
    one, two = traces(tmp_path, "one", "two")
    assert [step for step, _ in one] == [step for step, _ in two]
    for (_, alone), (_, together) in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-4)
    assert one[-1][1] < one[0][1]
