"""Pages with the Markdown to learn, as tensors for any model with a processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from primum.errors import UserError
from primum.language.batches import IGNORED
from primum.parsing.line_reader import LineTruth
from primum.parsing.regions import Box

if TYPE_CHECKING:
    from transformers import ProcessorMixin


@dataclass(frozen=True)
class Sample:
    """A page to learn from.

    Attributes:
        image: The page.
        markdown: What to write.
        lines: Lines with their places, where they are known: (text, box).
        id: For messages.
    """

    image: Image.Image
    markdown: str
    lines: tuple[tuple[str, Box], ...] = field(default=())
    id: str = ""


class Encoder:
    """Makes batches: the prompt, the answer and its end, labels on the answer alone.

    Args:
        processor: Of the model.
        prompt: What the model is asked; empty where its chat template needs no words.
        max_length: Tokens of a page at most, visual ones included.
        multiple: Pages of a batch are padded in white to one size, a multiple of this; None
            leaves sizes alone, for models whose processor sees to them.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        prompt: str = "",
        max_length: int = 8192,
        multiple: int | None = None,
    ) -> None:
        self.processor: Any = processor
        self.tokenizer = self.processor.tokenizer
        self.prompt, self.max_length, self.multiple = prompt, max_length, multiple
        self.tokenizer.padding_side = "right"

    def asked(self) -> str:
        """The prompt with its place for the picture."""
        parts: list[dict[str, str]] = [{"type": "image"}]
        if self.prompt:
            parts.append({"type": "text", "text": self.prompt})
        return self.processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True
        )

    def inputs(self, images: Sequence[Image.Image], answers: Sequence[str] = ()) -> dict[str, Any]:
        """What the model takes for some pages, with answers behind the prompts if given."""
        asked = self.asked()
        texts = [asked + answer for answer in answers] or [asked] * len(images)
        pages = [[image.convert("RGB")] for image in images]
        return dict(self.processor(images=pages, text=texts, padding=True, return_tensors="pt"))

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """A batch: the model's inputs, `labels`, `lines` and `ids`.

        Raises:
            UserError: A page is longer than `max_length` or has characters the model cannot write.
        """
        images = [sample.image for sample in samples]
        if self.multiple is not None:
            images = same_size(images, self.multiple)
        end = self.tokenizer.eos_token
        batch = self.inputs(images, [sample.markdown + end for sample in samples])
        asked = self.inputs(images)["attention_mask"].sum(1)
        labels = batch["input_ids"].clone()
        places = torch.arange(labels.shape[1])
        labels[(places < asked[:, None]) | (batch["attention_mask"] == 0)] = IGNORED
        self.check(samples, batch["attention_mask"].sum(1), labels)
        lines = [
            LineTruth(page, box, tuple(self.tokenizer(text, add_special_tokens=False).input_ids))
            for page, sample in enumerate(samples)
            for text, box in sample.lines
        ]
        return batch | {
            "labels": labels,
            "lines": lines,
            "ids": [sample.id for sample in samples],
            "answer_from": int(asked.min()),
        }

    def check(self, samples: Sequence[Sample], lengths: torch.Tensor, labels: torch.Tensor) -> None:
        """Refuse what cannot be learned."""
        unknown = self.tokenizer.unk_token_id
        for sample, length, row in zip(samples, lengths.tolist(), labels, strict=True):
            if length > self.max_length:
                raise UserError(
                    f"Page {sample.id} has {length} tokens, {self.max_length} are allowed",
                    remedy="raise data.max_length, or give smaller pages",
                )
            if unknown is not None and bool((row == unknown).any()):
                strange = sorted({c for c in sample.markdown if ord(c) > 126})
                raise UserError(
                    f"Page {sample.id} has characters the model cannot write: {''.join(strange)}",
                    remedy="leave them out, or train a model with a larger vocabulary",
                )


def same_size(images: Sequence[Image.Image], multiple: int) -> list[Image.Image]:
    """Pages on white sheets of one size, in the upper left corner."""
    width = max(image.width for image in images)
    height = max(image.height for image in images)
    size = (-(-width // multiple) * multiple, -(-height // multiple) * multiple)
    sheets = []
    for image in images:
        sheet = Image.new("RGB", size, (255, 255, 255))
        sheet.paste(image.convert("RGB"))
        sheets.append(sheet)
    return sheets
