"""docvlm-tiny: a document model of a few million weights that reads rendered pages.

FastVLM in small: a ConvNeXt whose last map has a visual token for 16 x 16 px, in front of a Qwen3
decoder that writes characters. Transformers runs it natively. Convolutions see strokes at once,
which attention over patches of 8 px took hours to learn.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from primum.errors import UserError
from primum.files import sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

TOKEN = 16  # pixels of a visual token's side
PAD, IMAGE, START, END, UNKNOWN = range(5)
SPECIAL = ("<pad>", "<image>", "<start>", "<end>", "<unknown>")
CHARACTERS = "\n" + string.digits + string.ascii_letters + string.punctuation + " "
TEMPLATE = "{{ '<image>' }}{{ '<start>' }}"


@dataclass(frozen=True)
class DocVlmTiny:
    """A fresh docvlm-tiny; the defaults have 4.7 million weights.

    Args:
        encoder: Blocks of each of the four stages, at 1/4, 1/8, 1/16 and 1/16 of the pixels a side.
        sight: Width of each stage.
        decoder: Layers.
        width: Of the decoder.
        heads: Of the decoder; `width / heads`, the size of a head, is a multiple of 4.
        context: Visual tokens and characters together, at most.
        longest: Pixels of a page's longer side; larger pages are made smaller.
        seed: Of the first weights.
        weights: Directory of a trained one that it starts from, instead of the seed.

    Raises:
        UserError: `weights` do not fit (on `model()`).
    """

    encoder: Sequence[int] = (1, 2, 4, 2)
    sight: Sequence[int] = (32, 64, 160, 256)
    decoder: int = 4
    width: int = 192
    heads: int = 3
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
            extra_special_tokens={"image_token": SPECIAL[IMAGE]},
            model_max_length=self.context,
            clean_up_tokenization_spaces=False,
        )

    def processor(self) -> ProcessorMixin:
        """Pictures and text to tensors."""
        from transformers import LlavaProcessor, PixtralImageProcessor

        images = PixtralImageProcessor(
            size={"longest_edge": self.longest},
            patch_size={"height": TOKEN, "width": TOKEN},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        )
        return LlavaProcessor(
            images,
            self.tokenizer(),
            patch_size=TOKEN,
            vision_feature_select_strategy="full",
            chat_template=TEMPLATE,
        )

    def model(self) -> PreTrainedModel:
        """The network with its first weights, which depend on nothing but `seed`."""
        import torch
        from transformers import FastVlmConfig, FastVlmForConditionalGeneration

        config = FastVlmConfig(
            vision_config={
                "model_type": "timm_wrapper",
                "architecture": "convnext_atto_ols",
                "model_args": {
                    "depths": list(self.encoder),
                    "dims": list(self.sight),
                    "output_stride": TOKEN,
                    "ls_init_value": None,  # from scratch, blocks count from the first step on
                    "head_norm_first": True,
                },
                "hidden_size": self.sight[-1],
                "do_pooling": False,
            },
            text_config={
                "model_type": "qwen3",
                "vocab_size": len(SPECIAL) + len(CHARACTERS),
                "hidden_size": self.width,
                "intermediate_size": 4 * self.width,
                "num_hidden_layers": self.decoder,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.heads,
                "head_dim": self.width // self.heads,
                "max_position_embeddings": self.context,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
                "pad_token_id": PAD,
                "bos_token_id": START,
                "eos_token_id": END,
            },
            image_token_index=IMAGE,
            tie_word_embeddings=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = FastVlmForConditionalGeneration(config)
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
