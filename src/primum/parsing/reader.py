"""A document model that reads pages, with drafts or without: what benchmarks and commands use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, UnidentifiedImageError

from primum.errors import UserError
from primum.parsing.decoding.decoder import Decoded, Decoder, Page
from primum.parsing.decoding.target import Unit
from primum.parsing.docvlm import DocVlmTiny
from primum.parsing.drafters.drafter import Drafter
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.regions import Kind
from primum.parsing.samples import Encoder
from primum.parsing.surface import Surface

if TYPE_CHECKING:
    from primum.language.source import Source


class PromptedTarget:
    """A model with one prompt for pages and crops alike, as decoding asks for it.

    Args:
        model: What is decoded.
        encoder: Its processor and prompt.
        surface: How it writes what drafters find.
    """

    unit: Unit = "page"

    def __init__(self, model: Any, encoder: Encoder, surface: Surface | None = None) -> None:
        self.model, self.encoder = model, encoder
        self.surface = surface or Surface(formula=("$$", "$$"))

    def page_inputs(self, image: Any) -> dict[str, Any]:
        """The model's inputs for a page, where the model is."""
        return {
            name: value.to(self.model.device) if isinstance(value, torch.Tensor) else value
            for name, value in self.encoder.inputs([image]).items()
        }

    def region_inputs(self, image: Any, kind: Kind) -> dict[str, Any]:
        """The model's inputs for a crop."""
        return self.page_inputs(image)

    def encode(self, text: str) -> Sequence[int]:
        """Text to tokens, no special ones."""
        return self.encoder.tokenizer(text, add_special_tokens=False).input_ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special ones left out."""
        return self.encoder.tokenizer.decode(tokens, skip_special_tokens=True)


class PageReader:
    """Reads page pictures into Markdown.

    Args:
        model: Whose weights.
        prompt: What it is asked.
        decoder: How; None takes transformers' own greedy `generate`.
        drafter: Looks at each page first, where the decoder takes drafts.
        surface: How the model writes what the drafter finds.
        device: Where the model is put when it is loaded; `auto` is a GPU if there is one, None
            leaves it where it is, for trainers that place it.
    """

    def __init__(
        self,
        model: PretrainedVlm | DocVlmTiny,
        prompt: str = "",
        decoder: Decoder | None = None,
        drafter: Drafter | None = None,
        surface: Surface | None = None,
        device: str | None = None,
    ) -> None:
        self.model, self.prompt, self.device = model, prompt, device
        self.decoder, self.drafter, self.surface = decoder, drafter, surface
        self.network: Any = None
        self.encoder: Encoder | None = None

    @classmethod
    def of(cls, source: Source, **options: Any) -> PageReader:
        """A reader of the weights that a language source names."""
        model = PretrainedVlm(
            source.name, source.revision, source.dtype, source.attention, source.trust_remote_code
        )
        return cls(model, **options)

    def identity(self) -> dict[str, Any]:
        """What its answers depend on."""
        return {
            "name": self.model.name,
            "files": self.model.fingerprint(),
            "prompt": self.prompt,
            "decoding": "generate" if self.decoder is None else self.decoder.mode,
            "tolerance": 1.0 if self.decoder is None else self.decoder.tolerance,
            "drafter": None if self.drafter is None else self.drafter.name,
        }

    def load(self) -> None:
        """Read weights and processor, once."""
        if self.network is None:
            self.encoder = Encoder(self.model.processor(), self.prompt)
            self.network = self.model.model().eval()
            if self.device is not None:
                best = "cuda" if torch.cuda.is_available() else "cpu"
                self.network.to(best if self.device == "auto" else self.device)

    def read(self, images: Sequence[Image.Image], max_new_tokens: int) -> list[str]:
        """The Markdown of some pages."""
        if self.decoder is None:
            self.load()
            assert self.encoder is not None
            return read_plainly(self.network, self.encoder, images, max_new_tokens)
        return [one.text.strip() for one in self.decoded(images, max_new_tokens)]

    def decoded(self, images: Sequence[Image.Image], max_new_tokens: int) -> list[Decoded]:
        """The output of some pages with the decoder's trace."""
        self.load()
        assert self.encoder is not None and self.decoder is not None
        self.decoder.max_new_tokens = max_new_tokens
        drafts = [self.drafter(image) if self.drafter is not None else [] for image in images]
        pages = [Page(image, found) for image, found in zip(images, drafts, strict=True)]
        return self.decoder(PromptedTarget(self.network, self.encoder, self.surface), pages)

    def answer(self, cases: Sequence[Any], settings: Any) -> list[str]:
        """The Markdown of benchmark cases, whose pictures lie at `files["image"]`."""
        return self.read([picture_of(case) for case in cases], settings.max_new_tokens)


def read_plainly(
    network: Any, encoder: Encoder, images: Sequence[Image.Image], max_new_tokens: int
) -> list[str]:
    """Greedy `generate`, one page at a time: what every faster way is compared with."""
    target = PromptedTarget(network, encoder)
    texts = []
    with torch.inference_mode():
        for image in images:
            inputs = target.page_inputs(image)
            ids = network.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
            new = ids[0, inputs["input_ids"].shape[1] :].tolist()
            texts.append(target.decode(new).strip())
    return texts


def picture_of(case: Any) -> Image.Image:
    """The picture of a benchmark case.

    Raises:
        UserError: It is not here, or cannot be read.
    """
    file = case.files.get("image")
    if file is None:
        raise UserError(
            f"The picture of {case.id} is not here",
            remedy="put the pages' pictures where benchmark.images says",
        )
    try:
        with Image.open(file) as picture:
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"This picture cannot be read: {error}", file=file) from None
