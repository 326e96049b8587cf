"""Tiny models are real Hugging Face directories with their family's own chat format."""

import time

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError

TURNS = [
    {"role": "system", "content": "Be safe."},
    {"role": "user", "content": "Hi é 你"},
    {"role": "assistant", "content": "<think>\nold\n</think>\n\nHello"},
    {"role": "user", "content": "More"},
    {"role": "assistant", "reasoning_content": "new", "content": "Yes"},
]


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma3"])
def test_a_tiny_model_loads_and_answers_without_primum(tmp_path, architecture):
    folder = make_tiny(tmp_path / "tiny", architecture)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        TURNS[:2], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=3)
    assert answer.shape[1] > prompt["input_ids"].shape[1]
    assert 400 <= len(tokenizer) <= 1000
    assert model.generation_config.eos_token_id[0] == tokenizer.eos_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.decode(tokenizer("naïve 你好 1.5 mg", add_special_tokens=False).input_ids) == (
        "naïve 你好 1.5 mg"
    )


def test_the_same_seed_gives_the_same_bytes_in_under_two_seconds(tmp_path):
    make_tiny(tmp_path / "warm")
    start = time.perf_counter()
    first = make_tiny(tmp_path / "a", seed=3)
    assert time.perf_counter() - start < 2
    second = make_tiny(tmp_path / "b", seed=3)
    other = make_tiny(tmp_path / "c", seed=4)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, second, other)]
    assert weights[0] == weights[1] != weights[2]


def test_qwen3_style_forgets_the_thinking_of_earlier_turns(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny(tmp_path / "tiny", "qwen3"))
    assert tokenizer.apply_chat_template(TURNS, tokenize=False) == (
        "<|im_start|>system\nBe safe.<|im_end|>\n<|im_start|>user\nHi é 你<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nnew\n</think>\n\nYes<|im_end|>\n"
    )
    assert tokenizer.apply_chat_template(
        TURNS[:2], tokenize=False, add_generation_prompt=True, enable_thinking=False
    ).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_llama3_style_has_headers_and_one_end_of_turn_token_each(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny(tmp_path / "tiny", "llama"))
    assert tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe safe.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi é 你<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_gemma3_style_puts_the_system_text_in_the_first_user_turn(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny(tmp_path / "tiny", "gemma3"))
    assert tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True) == (
        "<bos><start_of_turn>user\nBe safe.\n\nHi é 你<end_of_turn>\n<start_of_turn>model\n"
    )


def test_an_unknown_architecture_is_refused_with_the_choices(tmp_path):
    with pytest.raises(UserError, match="qwen3, llama, gemma3"):
        make_tiny(tmp_path / "tiny", "gpt9")
