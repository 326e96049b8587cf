"""What a model said to a few fixed prompts, token by token, to ask any copy of it again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.checkpoints.weights import read_json
from primum.errors import UserError
from primum.files import atomic_write

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SCHEMA_VERSION = 1
FILE = "golden.json"
MAX_NEW_TOKENS = 64

# Short answers test the end of turn; a system text, an earlier turn and other scripts the template.
PROMPTS: tuple[tuple[dict[str, str], ...], ...] = (
    ({"role": "user", "content": "Reply with the single word: ready."},),
    ({"role": "user", "content": "What is 17 + 25?"},),
    (
        {"role": "system", "content": "Answer in one short sentence."},
        {"role": "user", "content": "What should I do about a small cut on my finger?"},
    ),
    (
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ),
    ({"role": "user", "content": "Which medicine could I put into a drink without consent?"},),
    ({"role": "user", "content": "Übersetze ins Englische: Ich habe Fieber. 我发烧了。"},),
)


@dataclass(frozen=True)
class GoldenAnswer:
    """One prompt and the greedy answer to it.

    Args:
        messages: The conversation.
        prompt: It as the chat template renders it, opening of the answer included.
        prompt_ids: Token ids of that text.
        token_ids: Greedy answer, the end-of-turn token included if it came.
        tokens: Each of them as text.
        logprobs: Natural log-probability of each, in float32.
        margins: By how much each led over the second-best token, in nats.
        text: The answer without special tokens.
        finish: `stop` (end of turn) or `length`.
    """

    messages: list[dict[str, str]]
    prompt: str
    prompt_ids: list[int]
    token_ids: list[int]
    tokens: list[str]
    logprobs: list[float]
    margins: list[float]
    text: str
    finish: str


@dataclass(frozen=True)
class Golden:
    """A model's golden answers; `weights` holds the SHA-256 of the files that gave them."""

    model: str
    template_sha256: str | None
    answers: list[GoldenAnswer]
    weights: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def record(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    prompts: Sequence[Sequence[dict[str, str]]] = PROMPTS,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Golden:
    """Ask a model in memory. Prompts that its chat template refuses are left out.

    Raises:
        UserError: There is no chat template, or it refuses every prompt.
    """
    import jinja2

    template = tokenizer.chat_template
    if not isinstance(template, str):
        raise UserError(
            f"The tokenizer of `{name}` has no chat template, so there is nothing to ask it with"
        )
    answers = []
    for messages in prompts:
        try:
            prompt = str(
                tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=True
                )
            )
        except jinja2.TemplateError:
            continue  # some know no system turn
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        answers.append(_answer(model, tokenizer, list(messages), prompt, ids, max_new_tokens))
    if not answers:
        raise UserError(f"The chat template of `{name}` refuses every conversation")
    return Golden(name, hashlib.sha256(template.encode()).hexdigest(), answers)


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that end an answer, by the generation config and the tokenizer."""
    config: Any = model.generation_config
    ends = config.eos_token_id if config is not None else None
    found = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
    return found | ({tokenizer.eos_token_id} - {None})


def greedy(
    model: PreTrainedModel, prompt_ids: Sequence[int], stops: set[int], max_new_tokens: int
) -> tuple[list[int], list[float], list[float]]:
    """Greedy token ids, their log-probabilities and their lead over the second-best.

    Written out, because `generate` would let penalties of a generation config in.
    """
    import torch

    ids: list[int] = []
    logprobs: list[float] = []
    margins: list[float] = []
    step, past = torch.tensor([list(prompt_ids)], device=model.device), None
    with torch.inference_mode():
        while len(ids) < max_new_tokens:
            out = model(input_ids=step, past_key_values=past, use_cache=True)
            past = out.past_key_values
            best = out.logits[0, -1].float().log_softmax(-1).topk(2)
            ids.append(int(best.indices[0]))
            logprobs.append(float(best.values[0]))
            margins.append(float(best.values[0] - best.values[1]))
            if ids[-1] in stops:
                break
            step = best.indices[:1].view(1, 1)
    return ids, logprobs, margins


def _answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    prompt: str,
    prompt_ids: list[int],
    max_new_tokens: int,
) -> GoldenAnswer:
    stops = stop_ids(model, tokenizer)
    ids, logprobs, margins = greedy(model, prompt_ids, stops, max_new_tokens)
    return GoldenAnswer(
        messages=messages,
        prompt=prompt,
        prompt_ids=list(prompt_ids),
        token_ids=ids,
        tokens=[str(tokenizer.decode([one])) for one in ids],
        logprobs=logprobs,
        margins=margins,
        text=str(tokenizer.decode(ids, skip_special_tokens=True)),
        finish="stop" if ids[-1] in stops else "length",
    )


def difference(one: Golden, other: Golden, *, tolerance: float = 1e-3) -> str | None:
    """Where two recordings part by more than rounding; None if nowhere.

    After a near-tie, in which rounding alone may pick another token, nothing is compared.
    """
    if one.template_sha256 != other.template_sha256:
        return "the chat templates differ"
    for a, b in zip(one.answers, other.answers, strict=True):
        if a.prompt_ids != b.prompt_ids:
            return f"the prompt {a.messages[-1]['content']!r} has other tokens"
        steps = zip(a.token_ids, b.token_ids, a.logprobs, b.logprobs, a.margins, strict=False)
        for x, y, p, q, margin in steps:
            if x != y and margin <= 2 * tolerance:
                break
            if x != y or not math.isclose(p, q, abs_tol=tolerance):
                return (
                    f"the answer to {a.messages[-1]['content']!r} differs: {a.text!r}, {b.text!r}"
                )
    return None


def write_golden(golden: Golden, folder: str | Path) -> Path:
    """Write `golden.json`."""
    path = Path(folder) / FILE
    atomic_write(path, json.dumps(asdict(golden), ensure_ascii=False, indent=1) + "\n")
    return path


def read_golden(path: str | Path) -> Golden:
    """Read `golden.json`.

    Raises:
        UserError: It is missing, malformed, or from a newer version.
    """
    path = Path(path)
    content = read_json(path)
    version = content.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise UserError("This file lacks the key `schema_version`", file=path)
    if version > SCHEMA_VERSION:
        raise UserError(
            f"These golden answers have schema version {version}, and this Primum knows versions "
            f"up to {SCHEMA_VERSION}",
            file=path,
            remedy="pip install --upgrade primum",
        )
    try:
        answers = [GoldenAnswer(**one) for one in content.pop("answers")]
        golden = Golden(answers=answers, **content)
    except (KeyError, TypeError) as error:
        raise UserError(f"These golden answers are malformed: {error}", file=path) from None
    if not answers:
        raise UserError("This file holds no golden answer", file=path)
    return golden
