"""docvlm-tiny: a document model of a few million weights that reads rendered pages.

LightOnOCR in small: Pixtral with patches of 8 px, four of them a visual token (16 x 16 px),
in front of a Qwen3 decoder that writes characters. Transformers runs it natively.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.errors import UserError
from primum.files import sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

PATCH = 8
MERGE = 2
GRID = (PATCH, PATCH * MERGE)  # pixels of a patch and of a visual token
PAD, IMAGE, BREAK, STOP_IMAGE, START, END, UNKNOWN = range(7)
SPECIAL = ("<pad>", "<image>", "<break>", "<image_end>", "<start>", "<end>", "<unknown>")
CHARACTERS = "\n" + string.digits + string.ascii_letters + string.punctuation + " "
TEMPLATE = "{{ '<image>' }}{{ '<start>' }}"


@dataclass(frozen=True)
class DocVlmTiny:
    """A fresh docvlm-tiny; the defaults have 3.3 million weights.

    Args:
        encoder, decoder: Layers of each.
        width: Of the decoder.
        heads: Of the decoder; `width / heads`, the size of a head, is a multiple of 4.
        sight: Width of the encoder, a multiple of a head's size; None takes the decoder's.
        context: Visual tokens and characters together, at most.
        longest: Pixels of a page's longer side; larger pages are made smaller.
        seed: Of the first weights.
        weights: Directory of a trained one that it starts from, instead of the seed.

    Raises:
        UserError: `weights` do not fit (on `model()`).
    """

    encoder: int = 3
    decoder: int = 4
    width: int = 192
    heads: int = 3
    sight: int | None = 128
    context: int = 8192
    longest: int = 1600
    seed: int = 0
    weights: str | None = None
    name: str = "docvlm-tiny"
    revision: str | None = None

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One token a character of ASCII; anything else is unknown."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        vocabulary = {token: number for number, token in enumerate([*SPECIAL, *CHARACTERS])}
        inner = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[UNKNOWN]))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        inner.decoder = decoders.Fuse()
        return PreTrainedTokenizerFast(
            tokenizer_object=inner,
            pad_token=SPECIAL[PAD],
            bos_token=SPECIAL[START],
            eos_token=SPECIAL[END],
            unk_token=SPECIAL[UNKNOWN],
            extra_special_tokens={
                "image_token": SPECIAL[IMAGE],
                "image_break_token": SPECIAL[BREAK],
                "image_end_token": SPECIAL[STOP_IMAGE],
            },
            model_max_length=self.context,
            clean_up_tokenization_spaces=False,
        )

    def processor(self) -> ProcessorMixin:
        """Pictures and text to tensors."""
        from transformers import LightOnOcrProcessor, PixtralImageProcessor

        side = PATCH * MERGE
        images = PixtralImageProcessor(
            size={"longest_edge": self.longest},
            patch_size={"height": side, "width": side},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        )
        return LightOnOcrProcessor(
            images,
            self.tokenizer(),
            patch_size=PATCH,
            spatial_merge_size=MERGE,
            chat_template=TEMPLATE,
        )

    def model(self) -> PreTrainedModel:
        """The network with its first weights, which depend on nothing but `seed`."""
        import torch
        from transformers import LightOnOcrConfig, LightOnOcrForConditionalGeneration

        side = self.width // self.heads

        def shape(width: int) -> dict[str, Any]:
            return {
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "num_attention_heads": width // side,
                "head_dim": side,
            }

        config = LightOnOcrConfig(
            vision_config={
                "model_type": "pixtral",
                "patch_size": PATCH,
                "image_size": self.longest,
                "num_hidden_layers": self.encoder,
                **shape(self.sight or self.width),
            },
            text_config={
                "model_type": "qwen3",
                "vocab_size": len(SPECIAL) + len(CHARACTERS),
                "num_hidden_layers": self.decoder,
                "num_key_value_heads": self.heads,
                "max_position_embeddings": self.context,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
                "pad_token_id": PAD,
                "bos_token_id": START,
                "eos_token_id": END,
                **shape(self.width),
            },
            spatial_merge_size=MERGE,
            image_token_id=IMAGE,
            tie_word_embeddings=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = LightOnOcrForConditionalGeneration(config)
        if self.weights is not None:
            start_from(model, Path(self.weights).expanduser() / "model.safetensors")
        model.generation_config.eos_token_id = END
        model.generation_config.pad_token_id = PAD
        model.generation_config.bos_token_id = START
        return model.eval()

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of the weights it starts from, if any."""
        if self.weights is None:
            return {}
        file = Path(self.weights).expanduser() / "model.safetensors"
        return {file.name: sha256(file)} if file.is_file() else {}


def start_from(model: PreTrainedModel, file: Path) -> None:
    """Load weights of the same shapes, whatever their dtype."""
    from safetensors.torch import load_file

    if not file.is_file():
        raise UserError("There are no weights to start from", file=file)
    try:
        missing, unknown = model.load_state_dict(load_file(file), strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"These weights are of another size: {reason}",
            file=file,
            remedy="give model.width, model.sight ... as they were trained",
        ) from None
    if unknown or [name for name in missing if name != "lm_head.weight"]:  # tied to the embedding
        raise UserError("These are no weights of docvlm-tiny", file=file)
