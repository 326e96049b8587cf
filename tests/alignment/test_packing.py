"""Rows without padding give the log-probabilities and gradients of padded ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from primum.alignment.objectives import sequence_logprobs
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.language.attention import read_trees
from primum.language.batches import collate
from primum.language.chat import Encoded, encode
from primum.language.packing import Tree, flatten, grow, pack, trimmed
from primum.language.source import Source

GEMMAS_WINDOW = 64


def conversation(tokenizer: Any, question: str, answer: str) -> Encoded:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return trimmed(encode(tokenizer, turns))


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_packed_is_unpacked(tmp_path: Path, architecture: Any) -> None:
    """Also beyond the sliding window of Gemma, for texts alone and for answers on one prompt."""
    source = Source(str(make_tiny(tmp_path, architecture)), dtype="float32")
    tokenizer, model = source.tokenizer(), source.model()
    questions = [f"What is {n}?" + " Please" * 40 * n for n in range(3)]
    rows = [
        conversation(tokenizer, question, text)
        for n, question in enumerate(questions)
        for text in (f"It is {n}." + " so" * 9 * n, "No." + " way" * n)
    ]
    assert max(len(one.input_ids) for one in rows) > 2 * GEMMAS_WINDOW
    padded = sequence_logprobs(model, collate(rows, 0))
    weights = torch.linspace(-1, 1, len(rows))
    wanted = gradients(model, (padded.total() * weights).sum())

    assert read_trees(model)
    again = sequence_logprobs(model, collate(rows, 0))  # padded batches go on as before
    assert_close(again.total(), padded.total(), rtol=0, atol=0)
    for trees in (
        [Tree(one) for one in rows],
        [tree for n in range(0, 6, 2) for tree in grow(rows[n : n + 2])],
    ):
        packed = sequence_logprobs(model, flatten(trees))
        assert_close(packed.total(), padded.total(), rtol=1e-5, atol=1e-5)
        assert_close(packed.lengths, padded.lengths)
        for one, other in zip(
            gradients(model, (packed.total() * weights).sum()), wanted, strict=True
        ):
            assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_one_document_does_not_see_another(tmp_path: Path) -> None:
    source = Source(str(make_tiny(tmp_path, "llama")), dtype="float32")
    model = source.model()
    read_trees(model)
    one, two, other = (
        Encoded([k, k + 1, k + 2, k + 3], [False, True, True, True]) for k in (9, 40, 90)
    )
    first = sequence_logprobs(model, flatten([Tree(one), Tree(two)])).total()
    second = sequence_logprobs(model, flatten([Tree(other), Tree(two)])).total()
    assert first[1] == second[1] and first[0] != second[0]


def test_a_prompt_is_there_once_for_both_answers() -> None:
    mask = [False, False, False, True, True]
    (tree,) = grow([Encoded([1, 2, 3, 4, 5], mask), Encoded([1, 2, 3, 9], mask[:4])])
    assert tree.sizes == (3, 2, 1)
    row = flatten([tree])
    assert row["input_ids"].tolist() == [[1, 2, 3, 4, 5, 9]]
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3]]
    # the prompt's last token predicts the first of both answers
    assert row["sources"].tolist() == [2, 3, 2] and row["targets"].tolist() == [4, 5, 9]
    assert row["owners"].tolist() == [0, 0, 1] and row["finals"].tolist() == [4, 5]


def test_different_prompts_share_nothing() -> None:
    mask = [False, False, True]
    assert [tree.sizes for tree in grow([Encoded([1, 2, 3], mask), Encoded([7, 2, 3], mask)])] == [
        (3,), (3,),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no token to learn"):
        grow([Encoded([1, 2], [False, False])])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=60), st.integers(50, 80))
def test_bins_hold_everything_once_and_nothing_too_much(lengths: list[int], capacity: int) -> None:
    bins = pack(lengths, capacity)
    assert sorted(index for one in bins for index in one) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in one) for one in bins]
    assert all(0 < total <= capacity for total in sums)
    # best fit: no two bins could be one
    assert len(sums) < 2 or sum(sorted(sums)[:2]) > capacity


def test_what_fits_nowhere_is_an_error() -> None:
    with pytest.raises(UserError, match="does not fit into a row of 8"):
        pack([9], 8)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("adapted", [False, True])
def test_logits_in_slices_are_the_logits(
    tmp_path: Path, architecture: Any, adapted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same log-probabilities and gradients, at any temperature, slices ending anywhere."""
    from primum.alignment.objectives import head, likelihood
    from primum.language.lora import Lora

    source = Source(str(make_tiny(tmp_path, architecture)), dtype="float32")
    tokenizer, model = source.tokenizer(), source.model()
    rows = [conversation(tokenizer, "How much?", "So much." + " More." * n) for n in range(5)]
    if adapted:
        model = Lora(rank=4).adapt(model)  # type: ignore[assignment]
    read_trees(model.get_base_model() if adapted else model)  # type: ignore[operator]
    batch = flatten([Tree(one) for one in rows])
    found = []
    for limit in (2**40, 0):
        monkeypatch.setattr(likelihood, "LARGE", limit)
        monkeypatch.setattr(head, "ROWS", 7)
        said = sequence_logprobs(model, batch, temperature=0.7)
        weights = torch.linspace(-1, 1, len(said.tokens))
        trained = [one for one in model.parameters() if one.requires_grad]
        found.append((said.tokens, torch.autograd.grad((said.tokens * weights).sum(), trained)))
    assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_slices_are_trained_under_autocast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from primum.alignment.objectives import likelihood

    source = Source(str(make_tiny(tmp_path, "llama")), dtype="float32")
    model = source.model()
    batch = collate([conversation(source.tokenizer(), "How much?", "So much. " * 9)], 0)
    found = []
    for limit in (2**40, 0):
        monkeypatch.setattr(likelihood, "LARGE", limit)
        with torch.autocast("cpu", torch.bfloat16):
            said = sequence_logprobs(model, batch).tokens
        (slope,) = torch.autograd.grad(said.sum(), model.lm_head.weight)
        found.append((said.detach(), slope))
    assert_close(found[0][0], found[1][0], rtol=2e-2, atol=2e-2)
    assert_close(found[0][1], found[1][1], rtol=5e-2, atol=2e-2)


def test_what_follows_the_head_is_never_left_out(tmp_path: Path) -> None:
    from primum.alignment.objectives.head import backbone_and_head

    model = Source(str(make_tiny(tmp_path, "gemma3")), dtype="float32").model()
    assert backbone_and_head(model) is not None
    model.config.final_logit_softcapping = 30.0
    assert backbone_and_head(model) is None
