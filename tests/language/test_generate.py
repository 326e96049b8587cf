"""Answers depend on the model and the prompt, not on the batch they were made in."""

from __future__ import annotations

import pytest
import torch

from primum.errors import UserError
from primum.language.chat import encode, end_of_turn, render_prompt
from primum.language.formats import Conversation
from primum.language.generate import completion_logprobs, generate, stop_ids
from primum.language.lora import Lora

TALKS = [
    [{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1] + "."}]
    for text in ("Hi", "What is a safe dose of this medicine?", "Why?", "é 药", "no " * 40,
                 "Is it 42 or 12 + 30?", "ok")
]  # fmt: skip
ARCHITECTURES = ["qwen3", "llama", "gemma3"]


@pytest.fixture(params=ARCHITECTURES)
def asked(request, tiny):
    source = tiny(request.param)
    return source.model(), source.tokenizer()


def test_answers_are_the_same_in_any_batch_size(asked):
    one, three, seven = (
        generate(*asked, TALKS, max_new_tokens=24, batch_size=size) for size in (1, 3, 7)
    )
    assert (
        [x.token_ids for x in one] == [x.token_ids for x in three] == [x.token_ids for x in seven]
    )


def test_greedy_answers_are_those_of_transformers(asked):
    model, tokenizer = asked
    ours = generate(model, tokenizer, TALKS, max_new_tokens=24, batch_size=4)
    for talk, answer in zip(TALKS, ours, strict=True):
        prompt = tokenizer(
            render_prompt(tokenizer, talk), add_special_tokens=False, return_tensors="pt"
        )
        theirs = model.generate(
            **prompt, max_new_tokens=24, do_sample=False, eos_token_id=stop_ids(model, tokenizer)
        )
        assert list(answer.token_ids) == theirs[0, prompt.input_ids.shape[1] :].tolist()


def test_a_finished_answer_leaves_the_batch_and_changes_no_other(asked):
    """Let a token that some answers use end them: they stop there, the others run on unchanged."""
    model, tokenizer = asked
    free = generate(model, tokenizer, TALKS, max_new_tokens=24, batch_size=7)
    used = [set(one.token_ids) for one in free]
    ending = next(token for token in used[0] if not all(token in others for others in used))
    model.generation_config.eos_token_id = [ending]
    ended = generate(model, tokenizer, TALKS, max_new_tokens=24, batch_size=7)
    for before, after in zip(free, ended, strict=True):
        ids = list(before.token_ids)
        if ending in ids:
            assert list(after.token_ids) == ids[: ids.index(ending) + 1]
            assert after.finish == "stop"
        else:
            assert after.token_ids == before.token_ids and after.finish == "length"
            assert len(after.token_ids) == 24


def test_the_end_of_turn_is_not_in_the_text(tiny):
    model, tokenizer = tiny("llama").model(), tiny("llama").tokenizer()
    ending = end_of_turn(tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    assert stop_ids(model, tokenizer) == [ending]  # the template's own is always one
    with torch.no_grad():
        model.lm_head.weight[ending] = 50 * model.lm_head.weight[ending].sign()
    answers = generate(model, tokenizer, TALKS, max_new_tokens=24, batch_size=3)
    stopped = [one for one in answers if one.finish == "stop"]
    assert stopped and all(one.token_ids[-1] == ending for one in stopped)
    assert all(tokenizer.decode([ending]) not in one.text for one in stopped)


def test_samples_follow_from_the_seed_alone(tiny):
    asked = tiny("qwen3").model(), tiny("qwen3").tokenizer()

    def sample(size, seed):
        made = generate(
            *asked, TALKS, max_new_tokens=12, batch_size=size, temperature=1.0, seed=seed
        )
        return [one.token_ids for one in made]

    assert sample(1, 3) == sample(4, 3) != sample(4, 4)
    twice = generate(
        *asked, TALKS[:1] * 2, max_new_tokens=12, batch_size=2, temperature=1.0, seed=3
    )
    assert twice[0].token_ids != twice[1].token_ids


def test_progress_counts_every_answer(tiny):
    done: list[int] = []
    asked = tiny("llama").model(), tiny("llama").tokenizer()
    generate(*asked, TALKS, max_new_tokens=2, batch_size=3, progress=done.append)
    completion_logprobs(*asked, TALKS, 3, progress=done.append)
    assert done == [3, 3, 1, 3, 3, 1]
    assert generate(*asked, [], max_new_tokens=2, batch_size=3) == []


def test_log_probabilities_are_those_of_a_plain_loop(asked):
    model, tokenizer = asked
    batched = completion_logprobs(model, tokenizer, TALKS, 3)
    for talk, score in zip(TALKS, batched, strict=True):
        encoded = encode(tokenizer, talk)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([encoded.input_ids])).logits[0].log_softmax(-1)
        total = sum(
            float(logits[place - 1, token])
            for place, token in enumerate(encoded.input_ids)
            if encoded.loss_mask[place]
        )
        assert score.num_tokens == sum(encoded.loss_mask)
        assert score.sum_logprob == pytest.approx(total, abs=1e-3)


def test_conversations_of_a_data_set_can_be_asked(tiny):
    asked = tiny("llama").model(), tiny("llama").tokenizer()
    read = [Conversation("1", tuple(TALKS[0]), None, "data.jsonl", 1)]
    assert (
        generate(*asked, read, max_new_tokens=4, batch_size=1)[0].token_ids
        == generate(*asked, TALKS[:1], max_new_tokens=4, batch_size=1)[0].token_ids
    )


def test_an_adapter_answers_without_its_dropout_and_trains_on(tiny):
    source = tiny("llama")
    adapted = Lora(rank=2, dropout=0.9).adapt(source.model()).train()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    first, second = (
        [
            one.token_ids
            for one in generate(
                adapted, source.tokenizer(), TALKS, max_new_tokens=8, batch_size=size
            )
        ]
        for size in (2, 7)
    )
    assert first == second and adapted.training


def test_nothing_to_ask_is_refused(tiny):
    asked = tiny("llama").model(), tiny("llama").tokenizer()
    with pytest.raises(UserError, match="at least one message"):
        generate(*asked, [TALKS[0][1:]], max_new_tokens=2, batch_size=1)
