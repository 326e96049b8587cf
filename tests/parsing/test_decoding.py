"""Drafts change nothing: the tokens are those of `model.generate(do_sample=False)`."""

import numpy as np
import pytest
import torch
from tests.parsing.tiny_targets import KINDS, lively
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation import MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer

from primum.parsing.decoding.generate import Speculative
from primum.parsing.decoding.graphs import FixedSteps, can_be_fixed, fixed_steps
from primum.parsing.decoding.loop import decode, row
from primum.parsing.decoding.prefill import prefill
from primum.parsing.decoding.steps import ChainSteps, TreeSteps, can_take_trees
from primum.parsing.decoding.verify import verify
from primum.parsing.speculation.budget import FixedBudget
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.speculator import Speculator

TREES = [kind for kind in KINDS if kind != "encoder-decoder"]


def speculator() -> Speculator:
    return Speculator([RegionMatch(), OwnOutput()], FixedBudget(24), depth=16)


def plain(model, page, tokens=300, **options) -> torch.Tensor:
    return model.generate(**page, do_sample=False, max_new_tokens=tokens, **options)


def endless(model) -> None:
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0


def output_of(ids, page) -> list[int]:
    prompt = page["input_ids"].shape[1] if "input_ids" in page else 1
    return ids[0, prompt:].tolist()


def noisy(output, share=0.1, seed=0) -> list[Draft]:
    """The output with some tokens misread, in two halves of the wrong order, and one half twice."""
    rng = np.random.default_rng(seed)
    tokens = np.array(output)
    wrong = rng.random(len(tokens)) < share
    tokens[wrong] = rng.integers(3, 300, wrong.sum())
    half = len(tokens) // 2
    pieces = [tokens[half:], tokens[:half], tokens[:half]]
    return [Draft("", np.concatenate(pieces), np.array([0, len(tokens) - half, len(tokens)]))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.seconds
def test_the_tokens_are_those_of_generate(kind):
    model, page = lively(kind)
    endless(model)
    expected = plain(model, page)
    output = output_of(expected, page)
    assert len(output) == 300
    assert len(set(output)) >= 64
    decoder = Speculative(speculator(), noisy(output))
    assert torch.equal(plain(model, page, custom_generate=decoder), expected)
    assert decoder.row.trace.tokens_per_forward > 2
    sequence = prefill(model, page, max_new_tokens=300)
    assert can_take_trees(model, sequence) == (kind in TREES)
    assert verify(model, sequence, output).exact


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cap", [1, 2, 37])
def test_the_length_cap_and_the_end_token_hit_inside_a_draft(kind, cap):
    model, page = lively(kind)
    endless(model)
    output = output_of(plain(model, page, 64), page)
    decoder = Speculative(speculator(), noisy(output, share=0.0))
    capped = plain(model, page, cap, custom_generate=decoder)
    assert output_of(capped, page) == output[:cap]
    # Any token that is new at its place will do as the end; two of them, as a list.
    ends = [output[40], 399]
    expected = plain(model, page, 64, eos_token_id=ends)
    found = plain(model, page, 64, eos_token_id=ends, custom_generate=decoder)
    assert torch.equal(found, expected)
    assert output_of(found, page)[-1] in ends


@pytest.mark.parametrize("kind", ["1-D", "M-RoPE", "encoder-decoder"])
def test_chains_serve_where_trees_cannot(kind, monkeypatch):
    model, page = lively(kind)
    endless(model)
    expected = plain(model, page, 120)
    monkeypatch.setattr("primum.parsing.decoding.loop.can_take_trees", lambda *_: False)
    decoder = Speculative(speculator(), noisy(output_of(expected, page)))
    assert torch.equal(plain(model, page, 120, custom_generate=decoder), expected)
    assert decoder.row.trace.tokens_per_forward > 1.5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_that_takes_a_mask(attention):
    model, page = lively("M-RoPE", seed=1)
    endless(model)
    model.set_attn_implementation(attention)
    expected = plain(model, page, 100)
    decoder = Speculative(speculator(), noisy(output_of(expected, page)))
    assert torch.equal(plain(model, page, 100, custom_generate=decoder), expected)


@pytest.mark.parametrize("kind", ["M-RoPE", "encoder-decoder"])
@pytest.mark.seconds
def test_processors_see_each_nodes_own_path(kind):
    model, page = lively(kind)
    options = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 150}
    expected = plain(model, page, 160, **options)
    decoder = Speculative(speculator(), noisy(output_of(expected, page)))
    assert torch.equal(plain(model, page, 160, custom_generate=decoder, **options), expected)
    assert decoder.row.trace.tokens_per_forward > 1.5


class Listener(BaseStreamer):
    def __init__(self) -> None:
        self.heard: list[list[int]] = []
        self.ended = False

    def put(self, value) -> None:
        self.heard.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended = True


def test_criteria_and_streamers_get_token_after_token():
    model, page = lively("M-RoPE")
    endless(model)

    def third_of_a_kind(ids, scores, **_) -> torch.Tensor:
        lengths.append(ids.shape[1])
        return torch.tensor([(ids[0] == ids[0, -1]).sum() >= 6])

    lengths: list[int] = []
    stop = StoppingCriteriaList([third_of_a_kind])
    heard = Listener()
    expected = plain(model, page, stopping_criteria=stop, streamer=heard)
    before, lengths = lengths, []
    listener = Listener()
    decoder = Speculative(speculator(), noisy(output_of(expected, page)), streamer=listener)
    found = plain(model, page, stopping_criteria=stop, streamer=listener, custom_generate=decoder)
    assert torch.equal(found, expected)
    assert lengths == before
    assert (listener.heard, listener.ended) == (heard.heard, True)


def test_several_pages_at_once_each_with_its_own_length():
    model, page = lively("M-RoPE")
    endless(model)
    pages = [page, page | {"pixel_values": page["pixel_values"].flip(0)}]
    pages.append({"input_ids": page["input_ids"][:, :2], "attention_mask": torch.ones(1, 2)})
    caps = [90, 40, 70]
    expected = [
        output_of(plain(model, one, cap), one) for one, cap in zip(pages, caps, strict=True)
    ]
    sequences = [
        prefill(model, one, max_new_tokens=cap) for one, cap in zip(pages, caps, strict=True)
    ]
    rows = []
    for sequence, output in zip(sequences, expected, strict=True):
        spec = speculator()
        spec.start(noisy(output))
        rows.append(row(sequence, spec))
    decode(model, sequences, rows)
    assert [one.rules.output for one in rows] == expected
    assert all(one.trace.tokens_per_forward > 1.5 for one in rows)


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.seconds
def test_fixed_shapes_in_the_same_memory_page_after_page(kind, monkeypatch):
    monkeypatch.setattr(
        "primum.parsing.decoding.loop.can_be_fixed", lambda seqs: can_be_fixed(seqs, "cpu")
    )
    monkeypatch.setattr(
        "primum.parsing.decoding.loop.fixed_steps",
        lambda model, seqs, capture: fixed_steps(model, seqs, capture=False),
    )
    model, page = lively(kind)
    endless(model)
    other = page | {"pixel_values": page["pixel_values"].flip(0) * 0.5}
    for pages in ([page], [other], [other, page], [page, other]):
        caps = [90, 50][: len(pages)]
        expected = [output_of(plain(model, one, cap), one)
                    for one, cap in zip(pages, caps, strict=True)]  # fmt: skip
        sequences = [prefill(model, one, max_new_tokens=cap)
                     for one, cap in zip(pages, caps, strict=True)]  # fmt: skip
        rows = []
        for sequence, output in zip(sequences, expected, strict=True):
            spec = speculator()
            spec.start(noisy(output))
            rows.append(row(sequence, spec))
        steps = decode(model, sequences, rows)
        assert isinstance(steps, FixedSteps) and steps.portable
        assert [one.rules.output for one in rows] == expected
        assert all(one.trace.tokens_per_forward > 1.5 for one in rows)


def test_another_prefill_between_steps_does_not_move_positions():
    model, page = lively("M-RoPE")
    endless(model)
    expected = output_of(plain(model, page, 60), page)
    sequence = prefill(model, page, max_new_tokens=60)
    prefill(model, {"input_ids": torch.tensor([[5, 6, 7]])}, max_new_tokens=5)  # moves the delta
    one = row(sequence, None)
    decode(model, [sequence], [one])
    assert one.rules.output == expected


def test_left_padding_is_not_seen():
    model, page = lively("1-D")
    endless(model)
    padded = dict(page)
    padded["input_ids"] = torch.cat([torch.zeros(1, 3, dtype=torch.long), page["input_ids"]], -1)
    padded["attention_mask"] = (padded["input_ids"] != 0).long()
    expected = plain(model, padded, 80)
    decoder = Speculative(speculator(), noisy(output_of(expected, padded)))
    assert torch.equal(plain(model, padded, 80, custom_generate=decoder), expected)


def test_the_returned_cache_can_be_gone_on_from():
    model, page = lively("1-D")
    endless(model)
    expected = plain(model, page, 60, return_dict_in_generate=True)
    decoder = Speculative(speculator(), noisy(output_of(expected.sequences, page)))
    found = plain(model, page, 60, return_dict_in_generate=True, custom_generate=decoder)
    assert torch.equal(found.sequences, expected.sequences)
    length = expected.past_key_values.get_seq_length()
    assert found.past_key_values.get_seq_length() == length
    for mine, theirs in zip(
        found.past_key_values.layers, expected.past_key_values.layers, strict=True
    ):
        torch.testing.assert_close(mine.keys, theirs.keys)
        torch.testing.assert_close(mine.values, theirs.values)


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 2}, {"output_scores": True, "return_dict_in_generate": True}],
)
def test_what_cannot_be_kept_exact_goes_to_generate_with_a_notice(options):
    model, page = lively("1-D")
    endless(model)
    expected = plain(model, page, 12, **options)
    with pytest.warns(UserWarning, match="Drafts are not used"):
        found = plain(model, page, 12, custom_generate=Speculative(speculator()), **options)
    ids = [x if isinstance(x, torch.Tensor) else x.sequences for x in (found, expected)]
    assert torch.equal(*ids)


def test_sampling_goes_to_generate_too():
    model, page = lively("1-D")
    endless(model)
    torch.manual_seed(3)
    expected = model.generate(**page, do_sample=True, max_new_tokens=10)
    torch.manual_seed(3)
    with pytest.warns(UserWarning, match="random"):
        found = model.generate(
            **page, do_sample=True, max_new_tokens=10, custom_generate=Speculative(speculator())
        )
    assert torch.equal(found, expected)


def test_tolerance_takes_near_misses_and_strictness_does_not():
    model, page = lively("1-D")
    endless(model)
    output = output_of(plain(model, page, 60), page)
    lenient = Speculative(speculator(), noisy(output, 0.3), tolerance=1e-6)
    strict = Speculative(speculator(), noisy(output, 0.3))
    loose = output_of(plain(model, page, 60, custom_generate=lenient), page)
    assert output_of(plain(model, page, 60, custom_generate=strict), page) == output
    assert loose != output


def test_verification_finds_a_token_that_is_not_the_models():
    model, page = lively("M-RoPE")
    endless(model)
    output = output_of(plain(model, page, 50), page)
    output[20] = (output[20] + 1) % 300
    found = verify(model, prefill(model, page, max_new_tokens=50), output)
    assert 20 in found.differing
    assert not found.numeric
    assert "BEYOND" in str(found)


@pytest.mark.seconds
def test_useless_drafts_cost_no_forwards():
    model, page = lively("1-D")
    endless(model)
    expected = plain(model, page, 100)
    rng = np.random.default_rng(0)
    for draft in ([], [Draft("", rng.integers(3, 300, 200), np.array([0]))]):
        decoder = Speculative(speculator(), draft)
        assert torch.equal(plain(model, page, 100, custom_generate=decoder), expected)
        assert decoder.row.trace.forwards <= 99


@pytest.mark.parametrize("steps", [TreeSteps, ChainSteps])
def test_half_precision_differs_only_within_its_tolerance(steps, monkeypatch):
    model, page = lively("M-RoPE", dtype=torch.bfloat16)
    endless(model)
    if steps is ChainSteps:
        monkeypatch.setattr("primum.parsing.decoding.loop.can_take_trees", lambda *_: False)
    output = output_of(plain(model, page, 80), page)
    decoder = Speculative(speculator(), noisy(output))
    found = output_of(plain(model, page, 80, custom_generate=decoder), page)
    assert verify(model, prefill(model, page, max_new_tokens=80), found).numeric


def test_the_empty_output_is_possible():
    model, page = lively("1-D")
    sequence = prefill(model, page, max_new_tokens=1)
    sequence.config.max_length = sequence.input_ids.shape[1]
    one = row(sequence, speculator())
    decode(model, [sequence], [one])
    assert one.rules.output == []


def test_processor_lists_may_be_empty():
    model, page = lively("1-D")
    sequence = prefill(
        model,
        page,
        max_new_tokens=4,
        logits_processor=LogitsProcessorList(),
        stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(1000)]),
    )
    one = row(sequence, None)
    decode(model, [sequence], [one])
    assert len(one.rules.output) == 4


@pytest.mark.gpu
def test_captured_graphs_write_what_generate_writes():
    model, page = lively("M-RoPE", dtype=torch.float32)
    endless(model)
    model = model.cuda()
    page = {name: value.cuda() for name, value in page.items()}
    expected = plain(model, page, 120)
    for _ in range(2):
        decoder = Speculative(speculator(), noisy(output_of(expected.cpu(), page)))
        assert torch.equal(plain(model, page, 120, custom_generate=decoder), expected)
