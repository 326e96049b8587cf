"""A document model that reads pages, with drafts or without: what benchmarks and commands use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from primum.errors import UserError
from primum.parsing.decoding.decoder import Decoded, Decoder, Page
from primum.parsing.docvlm import DocVlmTiny
from primum.parsing.drafters.drafter import Drafter
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.samples import Encoder
from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import AdaptedTarget, Adapter
from primum.parsing.targets.known import adapter_of
from primum.pictures import read_picture

if TYPE_CHECKING:
    from primum.language.source import Source


class PageReader:
    """Reads page pictures into Markdown.

    Args:
        model: Whose weights.
        prompt: What it is asked.
        decoder: How; None takes transformers' own greedy `generate`.
        drafter: Looks at each page first, where the decoder takes drafts.
        surface: How the model writes what the drafter finds, where its adapter does not say it.
        device: Where the model is put when it is loaded; `auto` is a GPU if there is one, None
            leaves it where it is, for trainers that place it.
        target: How the model is asked (`conf/target`); None decides by its architecture.
    """

    def __init__(
        self,
        model: PretrainedVlm | DocVlmTiny,
        prompt: str = "",
        decoder: Decoder | None = None,
        drafter: Drafter | None = None,
        surface: Surface | None = None,
        device: str | None = None,
        target: Adapter | None = None,
    ) -> None:
        self.model, self.prompt, self.device = model, prompt, device
        self.adapter = target
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
            "target": None if self.adapter is None else self.adapter.identity(),
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

    def target(self) -> AdaptedTarget:
        """The model as decoding asks for it."""
        self.load()
        assert self.encoder is not None
        adapter = self.adapter or adapter_of(self.network, self.prompt)
        return AdaptedTarget(self.network, self.encoder.processor, adapter, self.surface)

    def read(self, images: Sequence[Image.Image], max_new_tokens: int) -> list[str]:
        """The Markdown of some pages."""
        if self.decoder is None:
            return read_plainly(self.target(), images, max_new_tokens)
        return [one.text.strip() for one in self.decoded(images, max_new_tokens)]

    def decoded(self, images: Sequence[Image.Image], max_new_tokens: int) -> list[Decoded]:
        """The output of some pages with the decoder's trace."""
        assert self.decoder is not None
        target = self.target()
        self.decoder.max_new_tokens = max_new_tokens
        drafts = [self.drafter(image) if self.drafter is not None else [] for image in images]
        pages = [Page(image, found) for image, found in zip(images, drafts, strict=True)]
        return self.decoder(target, pages)

    def answer(self, cases: Sequence[Any], settings: Any) -> list[str]:
        """The Markdown of benchmark cases, whose pictures lie at `files["image"]`."""
        return self.read([picture_of(case) for case in cases], settings.max_new_tokens)


def read_plainly(
    target: AdaptedTarget, images: Sequence[Image.Image], max_new_tokens: int
) -> list[str]:
    """Greedy `generate`, one page at a time: what every faster way is compared with."""
    texts = []
    with torch.inference_mode():
        for image in images:
            inputs = target.page_inputs(image)
            ids = target.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
            begin = 0 if target.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
            text = target.decode(ids[0, begin:].tolist())
            texts.append(target.surface.on(image.size).markdown(text).strip())
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
    return read_picture(file)
