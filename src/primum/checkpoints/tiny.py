"""A real language model of a few thousand weights, made in a second, for tests and dry runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.errors import UserError
from primum.files import atomic_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

VOCABULARY_SIZE = 640
CONTEXT = 2048

BUILT_IN_TEXT = (
    "You are a careful assistant. Answer the question, and say when you do not know.",
    "I cannot help with that, because it could hurt somebody. Please talk to a doctor instead.",
    "What are the side effects of this medicine, and when should I call an ambulance?",
    "The doctor asked the nurse about the dose; the nurse looked it up before giving it.",
    "Here is what you can do: rest, drink enough water, and measure your temperature twice a day.",
    "How do I explain a diagnosis to a child of seven years without frightening the family?",
    "Confidential records must not be shared with an employer without the consent of the patient.",
    "The answer is 42, then 7, then 1.5 mg/kg; the result of 12 + 30 is 42.",
    "system user assistant model thinking question answer reason safe unsafe help harm",
)

# Qwen3 style: thinking of earlier turns is dropped, only what follows the last question keeps it.
QWEN3_TEMPLATE = """\
{%- set ns = namespace(last_query=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last_query = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- set answer = message.content or '' %}
        {%- set thought = message.reasoning_content or '' %}
        {%- if not thought and '</think>' in answer %}
            {%- set thought = answer.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set answer = answer.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or thought) %}
            {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- answer.lstrip('\\n') }}
    {%- else %}
        {{- message.content }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
    {{- message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# Gemma 3 knows no system turn: its text opens the first user turn.
GEMMA3_TEMPLATE = """\
{{- bos_token }}
{%- set opening = '' %}
{%- set turns = messages %}
{%- if messages and messages[0].role == 'system' %}
    {%- set opening = messages[0].content | trim + '\\n\\n' %}
    {%- set turns = messages[1:] %}
{%- endif %}
{%- for message in turns %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Turns must alternate user, assistant, user, assistant ...') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {{- opening if loop.first else '' }}
    {{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""


@dataclass(frozen=True)
class Family:
    """What one architecture's tokenizer and chat format are made of."""

    pad: str
    end_of_text: str
    end_of_turn: str
    template: str
    special: tuple[str, ...] = ()  # besides the three above
    plain: tuple[str, ...] = ()  # single tokens that decode as text, as `<think>` does
    bos: str | None = None


FAMILIES = {
    "qwen3": Family(
        pad="<|endoftext|>",
        end_of_text="<|endoftext|>",
        end_of_turn="<|im_end|>",
        template=QWEN3_TEMPLATE,
        special=("<|im_start|>",),
        plain=("<think>", "</think>"),
    ),
    "llama": Family(
        pad="<|finetune_right_pad_id|>",
        end_of_text="<|end_of_text|>",
        end_of_turn="<|eot_id|>",
        template=LLAMA_TEMPLATE,
        special=("<|start_header_id|>", "<|end_header_id|>"),
        bos="<|begin_of_text|>",
    ),
    "gemma3": Family(
        pad="<pad>",
        end_of_text="<eos>",
        end_of_turn="<end_of_turn>",
        template=GEMMA3_TEMPLATE,
        special=("<start_of_turn>",),
        bos="<bos>",
    ),
}


def make_tiny(
    folder: str | Path,
    architecture: str = "qwen3",
    vocabulary_from: Sequence[str] | None = None,
    hidden: int = 32,
    layers: int = 2,
    seed: int = 0,
    chat_template: str | None = None,
) -> Path:
    """Write a small random model, with its own tokenizer and chat template, as a plain directory.

    `AutoModelForCausalLM` and `AutoTokenizer` load it like any other. The weights follow from
    `seed` alone, the vocabulary (at most 640 byte-level entries) from the text.

    Args:
        folder: Where to write; what is there is replaced.
        architecture: `qwen3`, `llama` or `gemma3`.
        vocabulary_from: Texts to train the tokenizer on; a built-in page otherwise.
        hidden: Width of the residual stream; a multiple of 8.
        layers: Number of blocks.
        chat_template: Jinja text instead of the architecture's own style.
    """
    if architecture not in FAMILIES:
        raise UserError(
            f"There is no tiny model of architecture `{architecture}`",
            remedy=f"choose one of {', '.join(FAMILIES)}",
        )
    if hidden < 8 or hidden % 8 or layers < 1:
        raise UserError(
            f"A tiny model needs hidden a multiple of 8 and at least one layer, "
            f"not hidden={hidden}, layers={layers}"
        )
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    family = FAMILIES[architecture]
    tokenizer = _tokenizer(family, vocabulary_from or BUILT_IN_TEXT)
    tokenizer.chat_template = chat_template or family.template
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            _config(architecture, tokenizer, hidden=hidden, layers=layers), dtype=torch.float32
        )
    ids = tokenizer.convert_tokens_to_ids
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, ids(family.end_of_text)],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=64,
    )
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors writes 0600, which another user's server cannot read
    return Path(folder)


def _tokenizer(family: Family, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    opening = (family.bos,) if family.bos else ()
    special = list(
        dict.fromkeys(
            (family.pad, family.end_of_text, *opening, family.end_of_turn, *family.special)
        )
    )
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY_SIZE - len(family.plain),
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    bpe.add_tokens([AddedToken(token, normalized=False) for token in family.plain])
    if family.bos:  # Llama and Gemma tokenizers open plain text with it, Qwen's does not
        bpe.post_processor = TemplateProcessing(
            single=f"{family.bos} $A",
            pair=f"{family.bos} $A $B",
            special_tokens=[(family.bos, bpe.token_to_id(family.bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=family.bos,
        eos_token=family.end_of_turn,
        pad_token=family.pad,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _config(
    architecture: str, tokenizer: PreTrainedTokenizerFast, *, hidden: int, layers: int
) -> PretrainedConfig:
    from transformers import Gemma3TextConfig, LlamaConfig, Qwen3Config

    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # Wide enough that logits differ: at 0.02 all tokens are nearly tied and greedy decoding
        # hangs on rounding.
        "initializer_range": 0.15,
    }
    if architecture == "qwen3":
        return Qwen3Config(**shared, tie_word_embeddings=True)
    if architecture == "llama":
        return LlamaConfig(**shared, tie_word_embeddings=False)
    return Gemma3TextConfig(
        **shared,
        tie_word_embeddings=True,
        query_pre_attn_scalar=hidden // 4,
        sliding_window=64,
        layer_types=["full_attention" if i % 2 else "sliding_attention" for i in range(layers)],
    )
