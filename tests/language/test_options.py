"""Options scored together are scored as each would be alone."""

import pytest
import torch

from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.language.options import option_logprobs, split
from primum.language.source import Source

SHARED = "The doctor asked the nurse about the dose; the nurse looked it up before giving it. " * 3


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    directory = make_tiny(tmp_path_factory.mktemp("tiny") / request.param, request.param)
    return Source(str(directory), dtype="float32")


def alone(model, tokenizer, prompt: str, option: str) -> float:  # type: ignore[no-untyped-def]
    piece = split(tokenizer, prompt, [option], True)
    ids = torch.tensor([piece.prompt + piece.options[0]])
    with torch.inference_mode():
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    steps = range(len(piece.prompt), ids.shape[1])
    return float(sum(logprobs[step - 1, ids[0, step]] for step in steps))


@pytest.mark.parametrize(
    ("prompts", "options"),
    [
        (["What now? Answer:", "A much longer question comes first. Answer:"], [" A", " B", " C"]),
        (["Q: rest? A:", "Q: water, and how much of it? A:"], [" yes", " ask the doctor", " no"]),
        ([SHARED + "One. A:", SHARED + "Two of them. A:", SHARED + "3. A:"], [" A", " B"]),
        ([SHARED + "One. A:", SHARED + "Two. A:"], [" drink enough water", " rest"]),
    ],
)
def test_every_option_has_the_probability_it_has_alone(
    source: Source, prompts: list[str], options: list[str]
) -> None:
    model, tokenizer = source.model(), source.tokenizer()
    found = option_logprobs(model, tokenizer, prompts, [options] * len(prompts), batch_size=8)
    for prompt, row in zip(prompts, found, strict=True):
        expected = [alone(model, tokenizer, prompt, option) for option in options]
        assert [score.sum_logprob for score in row] == pytest.approx(expected, abs=2e-5)
        assert [score.num_tokens for score in row] == [
            len(piece) for piece in split(tokenizer, prompt, options, True).options
        ]


def test_batches_do_not_change_the_scores(source: Source) -> None:
    model, tokenizer = source.model(), source.tokenizer()
    prompts = [f"Question {number}: " + "rest " * number + "Answer:" for number in range(7)]
    options = [[" A", " drink water", " ask"][: 2 + number % 2] for number in range(7)]
    scored = [
        option_logprobs(model, tokenizer, prompts, options, batch_size=size) for size in (1, 32)
    ]
    for one, other in zip(*scored, strict=True):
        assert [score.sum_logprob for score in one] == pytest.approx(
            [score.sum_logprob for score in other], abs=2e-5
        )


def test_a_prompt_beyond_the_context_is_refused(source: Source) -> None:
    with pytest.raises(UserError, match="context holds 2048"):
        option_logprobs(
            source.model(), source.tokenizer(), ["water " * 3000], [[" A"]], batch_size=1
        )


def test_an_option_without_tokens_is_refused(source: Source) -> None:
    with pytest.raises(UserError, match="no tokens"):
        option_logprobs(source.model(), source.tokenizer(), ["Answer:"], [[""]], batch_size=1)
