"""What a job leaves of a page: Markdown with its figures, and JSON with boxes and a trace."""

from __future__ import annotations

import glob
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from primum.files import atomic_write
from primum.parsing.decoding.decoder import Decoded, crop
from primum.parsing.jobs.blocks import FIGURE, Block, placed, with_figures
from primum.parsing.jobs.inputs import PageInput
from primum.parsing.regions import FURNITURE, Box, Region
from primum.parsing.speculation.trace import OWN

MODEL = "model"  # who supplied the tokens that nobody drafted


@dataclass(frozen=True)
class Output:
    """Where a job's pages go.

    Attributes:
        folder: Of the whole job.
        headers: Whether running headers, footers and page numbers stay.
        figures: Whether figures are cut out and saved.
    """

    folder: Path
    headers: bool = True
    figures: bool = True

    def write(
        self,
        page: PageInput,
        image: Image.Image,
        text: str,
        regions: Sequence[Region],
        decoding: dict[str, Any] | None = None,
    ) -> None:
        """Write a page's files; each is whole or absent, the JSON comes last."""
        target = self.folder / page.name
        sweep(target)
        blocks = placed(text, regions)
        figures = self.cut(target, image, regions) if self.figures else []
        kept = [block for block in blocks if self.headers or block.category not in FURNITURE]
        changed = len(kept) < len(blocks) or bool(figures)
        blocks = with_figures(kept, figures)
        told = {
            "file": page.file.name,
            "page": None if page.number is None else page.number + 1,
            "width": image.width,
            "height": image.height,
            "markdown": text,  # as the model wrote it
            "blocks": [
                {"category": one.category, "box": edges(one.box), "text": one.text}
                for one in blocks
            ],
            "drafted_regions": [{"kind": one.kind, "box": edges(one.box)} for one in regions],
            "decoding": decoding or {},
        }
        shown = markdown(blocks, target.name) if changed else text
        atomic_write(beside(target, ".md"), shown + "\n")
        atomic_write(beside(target, ".json"), json.dumps(told, ensure_ascii=False) + "\n")

    def cut(self, target: Path, image: Image.Image, regions: Sequence[Region]) -> list[Block]:
        """Save the figures of a page beside its Markdown."""
        found: list[Block] = []
        for region in regions:
            if region.kind != FIGURE or region.box.area < 1:
                continue
            name = f"figures/{len(found) + 1}.png"
            stream = io.BytesIO()
            crop(image, region.box).save(stream, "PNG")
            atomic_write(beside(target, ".figures") / Path(name).name, stream.getvalue())
            found.append(Block(FIGURE, name, region.box))
        return found


def markdown(blocks: Sequence[Block], name: str) -> str:
    """Blocks as a page; `name` is the page's own, in whose company its figures lie."""
    return "\n\n".join(
        f"![figure]({name}.{block.text})" if block.category == FIGURE else block.text
        for block in blocks
    )


def sweep(target: Path) -> None:
    """Remove what a killed run had half written of a page."""
    if target.parent.is_dir():
        for suffix in (".md", ".json"):
            for old in target.parent.glob(f".{glob.escape(target.name)}{suffix}.*"):
                old.unlink(missing_ok=True)


def beside(target: Path, suffix: str) -> Path:
    """A file of a page, by its suffix."""
    return target.with_name(target.name + suffix)


def edges(box: Box | None) -> list[float] | None:
    """A box as JSON holds it."""
    return None if box is None else [round(edge, 1) for edge in box]


def traced(found: Decoded, target: Any, drafting: float) -> dict[str, Any]:
    """Who supplied which text, step by step, and where the time went.

    Args:
        found: A decoded page.
        target: Whose tokenizer.
        drafting: Seconds that a drafter took.

    Returns:
        `pieces` [[who, text], ...], `steps` [[nodes, tokens, milliseconds], ...], `seconds` by
        part, `verification`, `lossy`, `mode`.
    """
    names = [*found.trace.names, MODEL]
    claims = [claim for step in found.trace.steps for claim in step.claims]
    claims = [OWN] * (len(found.tokens) - len(claims)) + claims  # the prompt's pass chose the first
    pieces: list[list[str]] = []
    begin = 0
    for end in range(1, len(claims) + 1):
        if found.mode == "region":
            break  # each crop's first token is the model's: which ones is not known here
        if end == len(claims) or claims[end] != claims[begin]:
            text = target.decode(found.tokens[begin:end])
            if text:
                pieces.append([names[claims[begin]], text])
            begin = end
    steps = [
        [step.nodes, len(step.claims), round(1000 * step.seconds, 2)] for step in found.trace.steps
    ]
    checked = found.verification
    return {
        "mode": found.mode,
        "lossy": found.lossy,
        "tokens": len(found.tokens),
        "pieces": pieces,
        "steps": steps,
        "seconds": {"draft": drafting, **found.seconds},
        "verification": None
        if checked is None
        else {"said": str(checked), "exact": checked.exact, "numeric": checked.numeric},
    }
