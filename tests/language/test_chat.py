"""The loss mask covers exactly the assistant's text and its end of turn, whatever the template."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.errors import UserError
from primum.language.chat import (
    Encoded,
    TooLong,
    encode,
    end_of_turn,
    render_prompt,
    split_thinking,
    template_sha256,
)
from primum.language.source import Source

TALK = [
    {"role": "system", "content": "You are careful."},
    {"role": "user", "content": " May I take two? "},
    {"role": "assistant", "content": "One is enough.", "reasoning_content": "Two may harm."},
    {"role": "user", "content": "And tomorrow?"},
    {"role": "assistant", "content": "Ask first: 5 mg é 药", "reasoning_content": "Unsure."},
]
THOUGHT = "<think>\nUnsure.\n</think>\n\n"
EARLIER = "<think>\nTwo may harm.\n</think>\n\n"
ANSWER = "Ask first: 5 mg é 药"


def learned(tokenizer, encoded: Encoded) -> list[str]:
    """The text of each contiguous learned stretch."""
    stretches: list[list[int]] = []
    before = False
    for token, counts in zip(encoded.input_ids, encoded.loss_mask, strict=True):
        if counts:
            stretches = stretches if before else [*stretches, []]
            stretches[-1].append(token)
        before = counts
    return [tokenizer.decode(ids) for ids in stretches]


@pytest.mark.parametrize(
    ("architecture", "template", "supervise", "thinking", "expected"),
    [
        ("qwen3", None, "last", "keep", [THOUGHT + ANSWER + "<|im_end|>"]),
        ("qwen3", None, "last", "drop", [ANSWER + "<|im_end|>"]),
        ("qwen3", None, "all", "drop", ["One is enough.<|im_end|>", ANSWER + "<|im_end|>"]),
        ("qwen3", "qwen3_marked", "last", "keep", [THOUGHT + ANSWER + "<|im_end|>"]),
        ("qwen3", "qwen3_marked", "last", "drop", [ANSWER + "<|im_end|>"]),
        (
            "qwen3", "qwen3_marked", "all", "keep",
            [EARLIER + "One is enough.<|im_end|>", THOUGHT + ANSWER + "<|im_end|>"],
        ),
        ("qwen3", "prefilled_thinking", "last", "keep",
         ["Unsure.\n</think>\n\n" + ANSWER + "<|im_end|>"]),
        ("qwen3", "prefilled_thinking", "last", "drop", [ANSWER + "<|im_end|>"]),
        ("llama", None, "last", "keep", [THOUGHT + ANSWER + "<|eot_id|>"]),
        ("llama", None, "last", "drop", [ANSWER + "<|eot_id|>"]),
        (
            "llama", None, "all", "keep",
            [EARLIER + "One is enough.<|eot_id|>", THOUGHT + ANSWER + "<|eot_id|>"],
        ),
        ("llama", "llama3_dated", "all", "drop",
         ["One is enough.<|eot_id|>", ANSWER + "<|eot_id|>"]),
        ("gemma3", None, "last", "keep", [THOUGHT + ANSWER + "<end_of_turn>"]),
        ("gemma3", None, "last", "drop", [ANSWER + "<end_of_turn>"]),
        ("gemma3", "gemma3_parts", "all", "drop",
         ["One is enough.<end_of_turn>", ANSWER + "<end_of_turn>"]),
    ],
)  # fmt: skip
def test_mask_is_exact(tiny, architecture, template, supervise, thinking, expected):
    tokenizer = tiny(architecture, template).tokenizer()
    encoded = encode(tokenizer, TALK, supervise=supervise, thinking=thinking)
    assert learned(tokenizer, encoded) == expected


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma3"])
def test_tokens_are_those_of_the_template(tiny, architecture):
    tokenizer = tiny(architecture).tokenizer()
    plain = [{key: turn[key] for key in ("role", "content")} for turn in TALK]
    expected = tokenizer.apply_chat_template(plain, tokenize=True, return_dict=True)["input_ids"]
    assert encode(tokenizer, plain, thinking="keep").input_ids == expected


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma3"])
@pytest.mark.parametrize("thinking", ["keep", "drop"])
def test_what_comes_before_the_last_answer_is_the_prompt(tiny, architecture, thinking):
    tokenizer = tiny(architecture).tokenizer()
    encoded = encode(tokenizer, TALK, thinking=thinking)
    prompt = render_prompt(tokenizer, TALK, thinking=thinking)
    first = encoded.loss_mask.index(True)
    assert tokenizer.decode(encoded.input_ids[:first]) == prompt
    assert tokenizer(prompt, add_special_tokens=False)["input_ids"] == encoded.input_ids[:first]


def test_thinking_written_in_the_text_is_the_same_as_in_its_own_field(tiny):
    inline = [*TALK[:-1], {"role": "assistant", "content": THOUGHT + ANSWER}]
    for architecture in ("qwen3", "llama"):
        tokenizer = tiny(architecture).tokenizer()
        for thinking in ("keep", "drop"):
            assert encode(tokenizer, inline, thinking=thinking) == encode(
                tokenizer, TALK, thinking=thinking
            )


def test_dropped_thinking_is_nowhere_in_the_conversation(tiny):
    for architecture in ("qwen3", "llama", "gemma3"):
        tokenizer = tiny(architecture).tokenizer()
        text = tokenizer.decode(encode(tokenizer, TALK, thinking="drop").input_ids)
        assert "Unsure" not in text and "harm" not in text


def test_thinking_that_the_template_drops_is_not_lost_silently(tiny):
    with pytest.raises(UserError, match="drops the thinking of message 3"):
        encode(tiny("qwen3").tokenizer(), TALK, supervise="all", thinking="keep")
    with pytest.raises(UserError, match="drops the thinking of message 5"):
        encode(tiny("qwen3", "forgetful").tokenizer(), TALK, thinking="keep")


def test_an_unended_turn_is_refused_with_its_remedy(tiny):
    with pytest.raises(UserError, match="never learn to stop") as error:
        encode(tiny("llama", "unclosed").tokenizer(), TALK[1:3], thinking="drop")
    assert "eos_token" in error.value.remedy


def test_marks_that_leave_out_the_end_of_turn_are_refused(tiny):
    with pytest.raises(UserError, match=r"end-of-turn token <\|im_end\|> outside"):
        encode(tiny("qwen3", "marks_before_the_end").tokenizer(), TALK[1:3], thinking="drop")


def test_a_template_that_rewrites_answers_is_refused(tiny):
    source = tiny("qwen3", "rewriting")
    with pytest.raises(UserError, match="cannot be verified") as error:
        encode(source.tokenizer(), TALK[1:3], thinking="drop")
    assert source.name in str(error.value) and "generation" in error.value.remedy


def test_a_model_without_template_is_refused(tiny):
    tokenizer = tiny("llama").tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        encode(tokenizer, TALK)
    with pytest.raises(UserError, match="no chat template"):
        template_sha256(tokenizer)


def test_a_conversation_the_template_refuses_says_so(tiny):
    with pytest.raises(UserError, match=r"refuses this conversation .*user, user, assistant"):
        encode(tiny("gemma3").tokenizer(), [TALK[1], TALK[3], TALK[4]], thinking="drop")


def test_too_long_conversations_are_refused_not_cut(tiny):
    tokenizer = tiny("llama").tokenizer()
    length = len(encode(tokenizer, TALK).input_ids)
    assert len(encode(tokenizer, TALK, max_length=length).input_ids) == length
    with pytest.raises(TooLong, match=f"{length} tokens"):
        encode(tokenizer, TALK, max_length=length - 1)


def test_a_token_across_the_edge_is_split_as_at_inference(tiny):
    """`Question\\n` + `\\nAnswer` would merge two line breaks into one token of neither."""
    tokenizer = tiny("qwen3").tokenizer()
    tokenizer.add_tokens(["\n\n"])
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ':\n' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
    )
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\nHello"}]
    assert "\n\n" in tokenizer.tokenize(render_prompt(tokenizer, talk[:1]) + "\nHello")
    encoded = encode(tokenizer, talk)
    assert learned(tokenizer, encoded) == ["\nHello<|im_end|>"]
    first = encoded.loss_mask.index(True)
    prompt = tokenizer(render_prompt(tokenizer, talk), add_special_tokens=False)["input_ids"]
    assert encoded.input_ids[:first] == prompt


def test_white_space_the_model_writes_is_learned(tiny):
    tokenizer = tiny("qwen3", "spaced_answers").tokenizer()
    encoded = encode(tokenizer, TALK[1:], supervise="all", thinking="drop")
    assert [text.strip() for text in learned(tokenizer, encoded)] == [
        "One is enough. <|im_end|>",
        ANSWER + " <|im_end|>",
    ]


def test_messages_after_the_last_answer_are_left_out(tiny):
    tokenizer = tiny("llama").tokenizer()
    assert encode(tokenizer, [*TALK, {"role": "user", "content": "Thanks"}]) == encode(
        tokenizer, TALK
    )


@pytest.mark.parametrize(
    ("talk", "problem"),
    [
        ([], "no assistant turn"),
        (TALK[:2], "no assistant turn"),
        ([*TALK[:2], {"role": "assistant", "content": "  "}], "empty"),
        ([*TALK[:2], {"role": "assistant", "content": "<think>why</think>"}], "empty"),
        ([*TALK[:2], {"role": "assistant", "content": None}], "content is text"),
        ([*TALK[:2], {"role": "assistant", "content": "", "tool_calls": [{}]}], "calls tools"),
    ],
)
def test_nothing_to_learn_is_refused(tiny, talk, problem):
    with pytest.raises(UserError, match=problem):
        encode(tiny("llama").tokenizer(), talk)


def test_a_prompt_needs_a_question(tiny):
    with pytest.raises(UserError, match="at least one message"):
        render_prompt(tiny("llama").tokenizer(), [TALK[2]])


@pytest.mark.parametrize(
    ("architecture", "token"),
    [("qwen3", "<|im_end|>"), ("llama", "<|eot_id|>"), ("gemma3", "<end_of_turn>")],
)
def test_end_of_turn_is_the_templates(tiny, architecture, token):
    tokenizer = tiny(architecture).tokenizer()
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(token)


def test_the_templates_hash_changes_with_it(tiny):
    plain, dated = tiny("llama").tokenizer(), tiny("llama", "llama3_dated").tokenizer()
    assert template_sha256(plain) == template_sha256(tiny("llama").tokenizer())
    assert template_sha256(plain) != template_sha256(dated)


def test_an_unclosed_thought_is_text():
    assert split_thinking("<think>a</think>\n\nb") == ("a", "b")
    assert split_thinking("<think>a") == ("", "<think>a")
    assert split_thinking("so <think>a</think>") == ("", "so <think>a</think>")


@cache
def loaded(source: Source):
    return source.tokenizer()


printable = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(question=printable, answer=printable.filter(str.strip), again=printable.filter(str.strip))
def test_any_text_is_learned_to_the_letter(tiny, question, answer, again):
    """Byte-level tokens give any Unicode back, so the learned text has one right value."""
    talk = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": question},
        {"role": "assistant", "content": again},
    ]
    for name, closing in (("llama", "<|eot_id|>"), ("gemma3", "<end_of_turn>")):  # both trim
        tokenizer = loaded(tiny(name))
        encoded = encode(tokenizer, talk, supervise="all", thinking="drop")
        assert learned(tokenizer, encoded) == [text.strip() + closing for text in (answer, again)]


# ── Real templates, where TRL is installed ───────────────────────────────────


def _trl_templates() -> Path | None:
    spec = find_spec("trl")
    folder = Path(spec.origin).parent / "chat_templates" if spec and spec.origin else None
    return folder if folder and folder.is_dir() else None


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("qwen2_5", "qwen3"), ("qwen3_instruct_2507", "qwen3"), ("llama3", "llama"),
        ("gemma", "gemma3"), ("gemma3", "gemma3"), ("cohere", "qwen3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("marked", [False, True])
def test_mask_is_that_of_trls_marked_templates(tiny, name, architecture, marked):
    folder = _trl_templates()
    assert folder is not None, "the oracle is TRL, which `make setup` installs"
    tokenizer = tiny(architecture).tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|END_OF_TURN_TOKEN|>"]})
    tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
    talk = [{key: turn[key] for key in ("role", "content")} for turn in TALK[1:]]
    tokenizer.chat_template = (folder / f"{name}_training.jinja").read_text()
    oracle = tokenizer.apply_chat_template(
        talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    if not marked:
        tokenizer.chat_template = (folder / f"{name}.jinja").read_text()
    ours = encode(tokenizer, talk, supervise="all")
    assert ours.input_ids == oracle["input_ids"]
    theirs = Encoded(oracle["input_ids"], [bool(one) for one in oracle["assistant_masks"]])
    # TRL's marks also take in line breaks of the template, before the answer or after its end.
    assert learned(tokenizer, ours) == [text.strip("\n") for text in learned(tokenizer, theirs)]


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "qwen3_6"])
def test_real_thinking_templates_keep_and_drop_as_said(tiny, name):
    folder = _trl_templates()
    assert folder is not None, "the oracle is TRL, which `make setup` installs"
    tokenizer = tiny("qwen3").tokenizer()
    tokenizer.chat_template = (folder / f"{name}.jinja").read_text()
    kept = learned(tokenizer, encode(tokenizer, TALK, thinking="keep"))
    assert [text.removeprefix("<think>\n") for text in kept] == [
        "Unsure.\n</think>\n\n" + ANSWER + "<|im_end|>"
    ]
    dropped = learned(tokenizer, encode(tokenizer, TALK, supervise="all", thinking="drop"))
    assert dropped == ["One is enough.<|im_end|>", ANSWER + "<|im_end|>"]
