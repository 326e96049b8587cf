"""Pages for a measurement: a folder's, or held-out synthetic ones, and what drafts for them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from primum.errors import UserError
from primum.parsing.drafters.ocr import OcrDrafter
from primum.parsing.drafters.text_layer import TextLayer
from primum.parsing.regions import Region
from primum.parsing.synthesis.page import Recipe, make_page
from primum.pictures import read_picture

PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Sheet:
    """A page to be read, and where its text layer is, if it has one."""

    name: str
    image: Any
    pdf: bytes | None = None


def pages(arguments: Any) -> list[Sheet]:
    """The pages of a folder, or held-out synthetic ones with their PDF twins."""
    if arguments.pages < 1:
        raise UserError("There is no page to read", remedy="--pages 20")
    if arguments.images is None:
        low, high = arguments.characters
        recipe = Recipe(
            characters=(low, high),
            height=max(640, high),
            chances={"heading": 0.5, "list": 0.25, "table": 0.25},
        )
        seeds = range(arguments.first, arguments.first + arguments.pages)
        made = [make_page(seed, recipe) for seed in seeds]
        return [Sheet(f"seed {one.seed}", one.image.convert("RGB"), one.pdf()) for one in made]
    folder = Path(arguments.images)
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in PICTURES)
    if not files:
        raise UserError("There are no pictures of pages here", file=folder)
    return [Sheet(file.name, read_picture(file)) for file in files[: arguments.pages]]


def regions(drafts: str, sheet: Sheet, drafter: OcrDrafter | None) -> list[Region]:
    """What drafts for a page."""
    if drafts == "ocr" and drafter is not None:
        return drafter(sheet.image)
    if drafts in ("text", "noise"):
        if sheet.pdf is None:
            raise UserError(f"{sheet.name} has no text layer", remedy="--drafts ocr empty")
        found = text_layer(sheet.pdf)
        return found if drafts == "text" else [_shuffled(one) for one in found]
    return []


def text_layer(pdf: bytes) -> list[Region]:
    """What the text layer of a one-page PDF says."""
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(pdf)
        file.flush()
        layer = TextLayer(Path(file.name))
        found = layer.regions(0, dpi=72)
        layer.close()
    return found


def _shuffled(region: Region) -> Region:
    """The same letters, in an order that says nothing."""
    letters = list(region.text)
    Random(len(letters)).shuffle(letters)
    return replace(region, text="".join(letters))
