"""Pages with the Markdown to learn, as tensors for any model with a processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image

from primum.errors import UserError
from primum.language.batches import IGNORED
from primum.parsing.line_reader import line_truth

if TYPE_CHECKING:
    from transformers import ProcessorMixin


class Printed(NamedTuple):
    """A line as it stands on the page: `markdown[start : start + len(middles)]`.

    Attributes:
        start: Place of its first character in the Markdown.
        height: Of the line's middle, in pixels from the top.
        middles: Of its characters, in pixels from the left.
    """

    start: int
    height: float
    middles: tuple[float, ...]


@dataclass(frozen=True)
class Sample:
    """A page to learn from.

    Attributes:
        image: The page.
        markdown: What to write.
        lines: Where they are known.
        id: For messages.
        letters: Only the line reader learns from it.
    """

    image: Image.Image
    markdown: str
    lines: tuple[Printed, ...] = field(default=())
    id: str = ""
    letters: bool = False


class Encoder:
    """Makes batches: the prompt, the answer and its end, labels on the answer alone.

    Args:
        processor: Of the model.
        prompt: What the model is asked; empty where its chat template needs no words.
        max_length: Tokens of a page at most, visual ones included.
        token: Pixels of a side of docvlm-tiny's visual tokens: pages of a batch are padded in white
            to one size, a multiple of it. None leaves sizes alone, for models whose processor sees
            to them.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        prompt: str = "",
        max_length: int = 8192,
        token: int | None = None,
    ) -> None:
        self.processor: Any = processor
        self.tokenizer = self.processor.tokenizer
        self.prompt, self.max_length, self.token = prompt, max_length, token
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
        """A batch: the model's inputs, `labels`, `ids`, `answer_from`, and where lines are known
        `read` (what the line reader should say), `looks` (where each token is read from) and
        `follows` (what each visual token is read after). For the line reader alone it has no
        `input_ids`.

        Raises:
            UserError: A page is longer than `max_length` or has characters the model cannot write.
        """
        images = [sample.image for sample in samples]
        if self.token is not None:
            images = same_size(images, self.token)
        end = self.tokenizer.eos_token
        batch = self.inputs(images, [sample.markdown + end for sample in samples])
        asked = self.asked_lengths(images, batch)
        labels = batch["input_ids"].clone()
        places = torch.arange(labels.shape[1])
        labels[(places < asked[:, None]) | (batch["attention_mask"] == 0)] = IGNORED
        self.check(samples, batch["attention_mask"].sum(1), labels)
        if self.token is not None and all(sample.lines for sample in samples):
            batch |= self.located(samples, labels, images[0].size, int(asked[0]))
            if all(sample.letters for sample in samples):
                del batch["input_ids"]
        return batch | {
            "labels": labels,
            "ids": [sample.id for sample in samples],
            "answer_from": int(asked.min()),
        }

    def asked_lengths(self, images: Sequence[Image.Image], batch: dict[str, Any]) -> torch.Tensor:
        """Tokens before the answer of each page."""
        if self.token is None:
            return self.inputs(images)["attention_mask"].sum(1)
        start = self.tokenizer.bos_token_id  # docvlm-tiny's prompt ends with it
        return (batch["input_ids"] == start).long().argmax(1) + 1

    def located(
        self, samples: Sequence[Sample], labels: torch.Tensor, size: tuple[int, int], first: int
    ) -> dict[str, torch.Tensor]:
        """Where what stands, in patches and in tokens; a character a token, visual ones first."""
        assert self.token is not None
        token = self.token
        across = size[0] // token
        looks = torch.full_like(labels, IGNORED)
        follows = torch.full_like(labels[:, :first], IGNORED)
        read = []
        for row, sample in enumerate(samples):
            ids = labels[row, first:].tolist()
            lines, order = [], []
            for line in sample.lines:
                letters = ids[line.start : line.start + len(line.middles)]
                lines.append((line.height, list(zip(line.middles, letters, strict=True))))
                seen = torch.tensor(line.middles).div(token, rounding_mode="floor").long()
                begin, seen = first + line.start, int(line.height // token) * across + seen
                looks[row, begin : begin + len(seen)] = seen
                order += seen.unique_consecutive().tolist()
            for before, after in pairwise(order):
                if before < after and follows[row, after] == IGNORED:
                    follows[row, after] = before
            last = -1
            for place in range(first + len(sample.markdown) - 1, first - 1, -1):
                if looks[row, place] == IGNORED:  # markup: look at what it stands before
                    looks[row, place] = last if last >= 0 else IGNORED
                last = int(looks[row, place])
            read.append(line_truth(size, lines))
        return {"looks": looks, "follows": follows, "read": torch.stack(read)}

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
