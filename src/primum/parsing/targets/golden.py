"""Does an adapter fit these weights? What they write of fixed pages, token by token.

Somebody with the weights runs it once: the report says which tensors were missing or left over,
whether drafts changed a token, and how far what was read lies from what stands on the pages. The
file it leaves is compared with later: on another machine, after an upgrade, by somebody else.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from primum.errors import UserError
from primum.extras import require
from primum.files import atomic_write
from primum.parsing.decoding.loop import decode, row
from primum.parsing.decoding.prefill import Prefilled, prefill
from primum.parsing.drafters.saved import omnidocbench
from primum.parsing.regions import Kind
from primum.parsing.speculation.budget import FixedBudget
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.synthesis.page import Recipe, SyntheticPage, make_page
from primum.parsing.targets.adapter import AdaptedTarget

SCHEMA_VERSION = 1
SEEDS = (1, 2, 3)
RECIPE = Recipe(sizes=(22, 28), width=(800, 960), height=1400)
NEAR = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}  # margins that rounding may turn


@dataclass(frozen=True)
class GoldenPage:
    """One page and what the model wrote of it.

    Args:
        seed: The page is made again from it.
        kind: Of the crop, where the model reads regions; `page` otherwise.
        prompt: SHA-256 of the prompt's token ids.
        pixels: SHA-256 of the picture tensors, rounded to 1/256.
        tokens: Greedy output.
        margins: By how much each led over the second-best token, in the logits' units.
        markdown: The output as Markdown.
        error: Edits between it and what stands there, as a share of the longer of both.
        drafted: Whether decoding with drafts gave the same tokens.
    """

    seed: int
    kind: str
    prompt: str
    pixels: str
    tokens: list[int]
    margins: list[float]
    markdown: str
    error: float
    drafted: bool


@dataclass(frozen=True)
class GoldenRun:
    """What one set of weights wrote of the golden pages."""

    adapter: str
    weights: dict[str, str]
    parameters: int
    missing: list[str]
    unexpected: list[str]
    dtype: str
    device: str
    versions: dict[str, str]
    pages: list[GoldenPage] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @property
    def sound(self) -> bool:
        """Every tensor found its place, and drafts changed nothing."""
        whole = not self.missing and not self.unexpected
        return whole and all(page.drafted for page in self.pages)

    def write(self, file: str | Path) -> None:
        """Write it as JSON."""
        atomic_write(file, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, file: str | Path) -> GoldenRun:
        """Read what `write` wrote.

        Raises:
            UserError: It is something else.
        """
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
            pages = [GoldenPage(**page) for page in found.pop("pages")]
            return cls(pages=pages, **found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"This file holds no golden pages: {error}",
                file=file,
                remedy="primum checkpoints verify NAME --golden FILE writes one",
            ) from None


def record(
    target: AdaptedTarget,
    weights: Mapping[str, str],
    loading: Mapping[str, Any],
    seeds: Sequence[int] = SEEDS,
    max_new_tokens: int = 512,
) -> GoldenRun:
    """Let a target read the golden pages.

    Args:
        weights: SHA-256 of its files.
        loading: What transformers says of the keys, as `output_loading_info` gives it.
        max_new_tokens: Of a page or crop.
    """
    import transformers

    model = target.model
    pages = [_read(target, *asked, max_new_tokens) for asked in _asked(target, seeds)]
    return GoldenRun(
        adapter=target.adapter.name,
        weights=dict(weights),
        parameters=sum(weight.numel() for weight in model.parameters()),
        missing=sorted(map(str, loading.get("missing_keys", ()))),
        unexpected=sorted(map(str, loading.get("unexpected_keys", ()))),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device.type),
        versions={
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        pages=pages,
    )


def compared(old: GoldenRun, new: GoldenRun) -> list[str]:
    """What differs, the cause before its effects; [] where nothing does."""
    told = []
    if old.adapter != new.adapter:
        told.append(f"the adapter: {old.adapter} then, {new.adapter} now")
    if old.weights != new.weights:
        names = {name for name, _ in old.weights.items() ^ new.weights.items()}
        told.append(f"files of the model: {', '.join(sorted(names))}")
    for name in ("dtype", "device", "versions"):
        then, now = getattr(old, name), getattr(new, name)
        if then != now:
            told.append(f"{name}: {then} then, {now} now (the same tokens are still expected)")
    for then, now in zip(old.pages, new.pages, strict=False):
        where = f"page of seed {now.seed}" + (f", {now.kind}" if now.kind != "page" else "")
        if (then.seed, then.kind) != (now.seed, now.kind):
            told.append(f"{where}: the golden file has another one in its place")
        elif then.prompt != now.prompt:
            told.append(f"{where}: the prompt's tokens (template, tokenizer or prompt)")
        elif then.pixels != now.pixels:
            told.append(f"{where}: the picture as the model sees it (image processor)")
        elif then.tokens != now.tokens:
            told.append(_diverged(then, now, where))
    if len(old.pages) != len(new.pages):
        told.append(f"pages: {len(old.pages)} then, {len(new.pages)} now")
    return told


def same_tokens(old: GoldenRun, new: GoldenRun) -> bool:
    """Whether the models wrote the same, or parted where the choice was nearly tied."""
    if len(old.pages) != len(new.pages):
        return False
    for then, now in zip(old.pages, new.pages, strict=True):
        if then.tokens != now.tokens:
            margin = _parting(then, now)[1]
            if (then.prompt, then.pixels) != (now.prompt, now.pixels):
                return False
            if margin is None or margin > max(NEAR.get(old.dtype, 0), NEAR.get(new.dtype, 0)):
                return False
    return True


def _diverged(then: GoldenPage, now: GoldenPage, where: str) -> str:
    place, margin = _parting(then, now)
    if margin is None:
        return f"{where}: one output is {len(now.tokens)} tokens, it was {len(then.tokens)}"
    return (
        f"{where}: token {place} of {len(now.tokens)} is {now.tokens[place]}, it was "
        f"{then.tokens[place]}, which led by {margin:.2g} (a small lead is a matter of rounding)"
    )


def _parting(then: GoldenPage, now: GoldenPage) -> tuple[int, float | None]:
    """Where two outputs part, and how clear the old choice was."""
    pairs = zip(then.tokens, now.tokens, strict=False)
    place = next((n for n, (old, new) in enumerate(pairs) if old != new), None)
    if place is None:
        return min(len(then.tokens), len(now.tokens)), None
    return place, then.margins[place]


def _asked(
    target: AdaptedTarget, seeds: Sequence[int]
) -> Iterator[tuple[int, Kind | None, Image.Image, str]]:
    """Pages, or the crops of their blocks where the model was made for crops; with their truth."""
    for seed in seeds:
        page: SyntheticPage = make_page(seed, RECIPE)
        image = page.image.convert("RGB")
        if target.unit != "region":
            yield seed, None, image, page.markdown
            continue
        regions = omnidocbench(page.annotation("page"))
        for region, placed in zip(regions, page.placed, strict=True):
            left, top, right, bottom = (int(edge) for edge in region.box)
            cut = image.crop((max(0, left - 5), max(0, top - 5), right + 6, bottom + 6))
            yield seed, region.kind, cut, placed.block.markdown


@torch.no_grad()
def _read(
    target: AdaptedTarget, seed: int, kind: Kind | None, image: Image.Image, truth: str, most: int
) -> GoldenPage:
    inputs = target.page_inputs(image) if kind is None else target.region_inputs(image, kind)
    margins: list[float] = []
    sequence = prefill(target.model, inputs, max_new_tokens=most)
    plain = row(sequence, None)
    choose = plain.rules.choose

    def noted(tree: Any, logits: Any) -> Any:
        best = logits[0].float().topk(2).values
        margins.append(round(float(best[0] - best[1]), 4))
        return choose(tree, logits)

    plain.rules.choose = noted  # type: ignore[method-assign]
    decode(target.model, [sequence], [plain])
    tokens = list(plain.rules.output)
    surface = target.surface.on(image.size)
    markdown = surface.markdown(target.decode(tokens), kind).strip()
    distance = require("rapidfuzz.distance", "parsing").Levenshtein.normalized_distance
    return GoldenPage(
        seed=seed,
        kind=kind or "page",
        prompt=_digest(inputs["input_ids"].cpu().numpy()),
        pixels=_pixels(inputs),
        tokens=tokens,
        margins=margins[: len(tokens)],
        markdown=markdown,
        error=round(float(distance(" ".join(markdown.split()), " ".join(truth.split()))), 4),
        drafted=_drafted(target, prefill(target.model, inputs, max_new_tokens=most), tokens),
    )


def _drafted(target: AdaptedTarget, sequence: Prefilled, tokens: list[int]) -> bool:
    """Whether a draft with some wrong tokens leads to the same output."""
    draft = np.array(tokens, dtype=np.int64)
    draft[7::11] = 0
    speculator = Speculator([RegionMatch(), OwnOutput()], FixedBudget(16))
    speculator.start([Draft("", draft, np.zeros(1, dtype=np.int64))])
    found = row(sequence, speculator)
    decode(target.model, [sequence], [found])
    return list(found.rules.output) == tokens


def _pixels(inputs: Mapping[str, Any]) -> str:
    """Of all tensors of the picture: libraries may differ in the last bits, not in 1/256."""
    parts = sorted(
        (name, value.float().mul(256).round().to(torch.int32).cpu().numpy())
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    )
    return _digest(*(part for _, part in parts))


def _digest(*parts: np.ndarray) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(str(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    return whole.hexdigest()
