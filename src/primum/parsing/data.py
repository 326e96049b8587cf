"""Pages to train on: made here, harder from stage to stage, or a folder of your own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from primum.errors import UserError
from primum.files import sha256
from primum.language.batches import IGNORED
from primum.parsing.docvlm import TOKEN, DocVlmTiny
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.samples import Encoder, Printed, Sample
from primum.parsing.synthesis import GENERATOR
from primum.parsing.synthesis.layout import middles
from primum.parsing.synthesis.page import Recipe, SyntheticPage, make_page
from primum.pictures import read_picture
from primum.training.loading import ResumableLoader
from primum.training.sampling import Draw, example_generator

HELD_OUT = 1 << 20  # seeds below it are never trained on
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum.

    Attributes:
        recipe: What its pages are like.
        epochs: How long it lasts.
        pages: Pages in a bundle; large pages need small bundles.
        letters: Whether the line reader learns alone, which is quick, and the decoder rests.
        again: How often it comes again in later stages, against other earlier ones.
    """

    recipe: Recipe
    epochs: int = 1
    pages: int = 8
    letters: bool = False
    again: float = 1.0


class PageData(LightningDataModule):
    """Batches of pages for a parsing module.

    Args:
        model: Whose processor makes the tensors.
        batch_size: Items of the data set in a micro-batch.
        max_length: Tokens of a page at most, visual ones included.
        prompt: What the model is asked.
        seed: Of the order.
        num_workers: Processes that make batches.
    """

    def __init__(
        self,
        model: DocVlmTiny | PretrainedVlm,
        batch_size: int = 1,
        max_length: int = 8192,
        prompt: str = "",
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.batch_size, self.seed = model, batch_size, seed
        self.max_length, self.prompt, self.num_workers = max_length, prompt, num_workers
        self.encoder: Encoder | None = None
        self.training: Dataset[Any] | None = None
        self.held_out: list[Sample] = []

    def setup(self, stage: str) -> None:
        tiny = isinstance(self.model, DocVlmTiny)
        self.encoder = Encoder(
            self.model.processor(), self.prompt, self.max_length, TOKEN if tiny else None
        )

    def collate(self, items: Sequence[Sequence[Sample]]) -> dict[str, Any]:
        """A batch of all pages of some items."""
        assert self.encoder is not None
        return self.encoder([sample for item in items for sample in item])

    def train_dataloader(self) -> DataLoader:
        assert self.training is not None and self.trainer is not None
        return ResumableLoader(
            self.training,
            self.trainer,
            batch_size=self.batch_size,
            seed=self.seed,
            weigh=learned,
            collate_fn=self.collate,
            num_workers=self.num_workers,
        )

    def test_dataloader(self) -> list[DataLoader[Any]] | DataLoader[Any]:
        return self.val_dataloader()

    def val_dataloader(self) -> list[DataLoader[Any]] | DataLoader[Any]:
        if not self.held_out:
            return []
        items = [[sample] for sample in self.held_out]
        return DataLoader(items, batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]


class SyntheticData(PageData):
    """Pages made as they are needed, in stages; a resumed run makes the ones it would have made.

    Args:
        model: Whose processor makes the tensors.
        stages: One after the other; the last one goes on.
        bundles: Bundles in an epoch.
        earlier: Share of bundles taken from an earlier stage, lest it be forgotten.
        begin: Epochs of the stages that the weights one starts from have behind them.
        validation: Held-out pages of the last stage whose error rate is logged.
        others: As in `PageData`.
    """

    def __init__(
        self,
        model: DocVlmTiny | PretrainedVlm,
        stages: Sequence[Stage],
        bundles: int = 200,
        earlier: float = 0.1,
        begin: int = 0,
        validation: int = 16,
        **others: Any,
    ) -> None:
        super().__init__(model, **others)
        if not stages:
            raise UserError("A curriculum has at least one stage")
        self.stages, self.bundles, self.earlier = list(stages), bundles, earlier
        self.begin, self.validation = begin, validation

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.training = Bundles(self.stages, self.bundles, self.earlier, self.seed, self.begin)
        last = self.stages[-1].recipe
        self.held_out = [synthetic(make_page(seed, last)) for seed in range(self.validation)]

    def fingerprints(self) -> list[dict[str, Any]]:
        """What the pages follow from."""
        told = [self.stages, self.bundles, self.earlier, self.begin, self.seed, self.batch_size]
        return [fingerprint(f"synthetic pages, generator {GENERATOR}", self.bundles, repr(told))]


class Bundles(Dataset[list[Sample]]):
    """Several pages of one stage an item; which stage follows from the epoch."""

    def __init__(
        self,
        stages: Sequence[Stage],
        bundles: int,
        earlier: float = 0.1,
        seed: int = 0,
        begin: int = 0,
    ) -> None:
        self.stages, self.bundles, self.earlier, self.seed = stages, bundles, earlier, seed
        self.begin = begin

    def __len__(self) -> int:
        return self.bundles

    def stage(self, epoch: int) -> int:
        """Index of the stage an epoch belongs to."""
        for number, stage in enumerate(self.stages):
            epoch -= stage.epochs
            if epoch < 0:
                return number
        return len(self.stages) - 1

    def __getitem__(self, index: int) -> list[Sample]:
        epoch = self.begin + (index.epoch if isinstance(index, Draw) else 0)
        luck = example_generator(self.seed, epoch, int(index))
        number = self.stage(epoch)
        again = torch.tensor([stage.again for stage in self.stages[:number]])
        if again.any() and float(torch.rand(1, generator=luck)) < self.earlier:
            number = int(again.multinomial(1, generator=luck))
        stage = self.stages[number]
        seeds = torch.randint(HELD_OUT, 1 << 62, (stage.pages,), generator=luck).tolist()
        recipe = alike(stage.recipe, Random(seeds[0]))
        samples = (synthetic(make_page(seed, recipe)) for seed in seeds)
        return [replace(sample, letters=stage.letters) for sample in samples]


def alike(recipe: Recipe, luck: Random) -> Recipe:
    """Pages of about one width and length: a batch is padded to its largest page."""
    width, length = luck.randint(*recipe.width), luck.randint(*recipe.characters)
    longest = min(round(1.15 * length), recipe.characters[1])
    return replace(recipe, width=(width, width), characters=(length, longest))


class FolderData(PageData):
    """Your own pages: pictures with a Markdown file of the same name beside each.

    Args:
        model: Whose processor makes the tensors.
        train, validation: Folders, searched below as well.
        others: As in `PageData`.
    """

    def __init__(
        self,
        model: DocVlmTiny | PretrainedVlm,
        train: str,
        validation: str | None = None,
        **others: Any,
    ) -> None:
        super().__init__(model, **others)
        self.train, self.valid = train, validation

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.training = Folder(Path(self.train).expanduser())
        if self.valid is not None:
            folder = Folder(Path(self.valid).expanduser())
            self.held_out = [folder[number][0] for number in range(len(folder))]

    def fingerprints(self) -> list[dict[str, Any]]:
        """Which pages were trained on."""
        assert isinstance(self.training, Folder)
        files = self.training.files
        whole = [sha256(file) + sha256(file.with_suffix(".md")) for file in files]
        return [fingerprint(self.train, len(files), "".join(whole))]


class Folder(Dataset[list[Sample]]):
    """One page an item.

    Raises:
        UserError: There are no pages, or one has no Markdown.
    """

    def __init__(self, folder: Path) -> None:
        self.files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)
        if not self.files:
            raise UserError(
                "There are no pictures of pages here",
                file=folder,
                remedy="put page.png beside page.md",
            )
        for file in self.files:
            if not file.with_suffix(".md").is_file():
                raise UserError("This page has no Markdown beside it", file=file)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> list[Sample]:
        file = self.files[int(index)]
        text = file.with_suffix(".md").read_text("utf-8").strip()
        return [Sample(read_picture(file), text, id=file.name)]


def synthetic(page: SyntheticPage) -> Sample:
    """A made page with the places of its characters; those of formulas are not known."""
    markdown = page.markdown
    lines, cursor = [], 0
    for run in (run for one in page.placed for run in one.runs if run.text):
        start = markdown.find(run.text, cursor)
        if start < 0:
            continue  # a table's cell with characters that HTML escapes
        cursor = start + len(run.text)
        if not run.latex:
            lines.append(Printed(start, run.box.centre[1], middles(run)))
    return Sample(page.image, markdown, tuple(lines), f"synthetic page {page.seed}")


def fingerprint(name: str, rows: int, content: str) -> dict[str, Any]:
    """What a manifest says of training data."""
    hashed = hashlib.sha256(content.encode()).hexdigest()
    return {"name": name, "split": "train", "rows": rows, "sha256": hashed}


def learned(batch: dict[str, Any]) -> float:
    """Characters or tokens that a batch teaches."""
    return float((batch["labels"] != IGNORED).sum())


def _as_it_is(item: Any) -> Any:
    return item
