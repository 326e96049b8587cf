"""Thresholds for a backbone, from pictures without labels.

Cosines of one network reach from 0.9 to 1 and of another from 0 to 1, so thresholds do not carry
over. What carries over is how finely a picture is cut: thresholds are chosen at which the wanted
effective numbers of regions remain, in the median picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from primum.errors import UserError
from primum.metrics.covering import overlaps
from primum.segmentation.uniap import UniAP

LADDER = [round(float(tau), 3) for tau in np.arange(0.99, -0.0001, -0.015)]


@dataclass(frozen=True)
class Found:
    """Thresholds and what they give.

    Attributes:
        thresholds: A level each.
        centre: Whether the mean feature is taken away.
        counts: (pictures, levels) effective numbers of regions.
        stability: (levels,) covering of a picture's regions by those of its mirror image.
    """

    thresholds: tuple[float, ...]
    centre: bool
    counts: np.ndarray
    stability: np.ndarray


def tune(
    uniap: UniAP,
    pictures: Sequence[np.ndarray],
    wanted: Sequence[float] = (64, 32, 16, 8, 4),
    tell: Callable[[], None] = lambda: None,
) -> list[Found]:
    """Thresholds with and without the mean feature, the more stable first.

    Args:
        uniap: Its backbone is what thresholds are for; its own thresholds are not used.
        pictures: (height, width, 3) uint8 each.
        wanted: Effective number of regions at each level, falling.
        tell: Called after each picture.

    Raises:
        UserError: Features are the same everywhere.
    """
    spread = 0.0
    swept: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = {False: [], True: []}
    for image in pictures:
        plain = uniap.features(image)
        spread = max(spread, float((plain - plain.mean((1, 2), keepdim=True)).norm(dim=-1).max()))
        mirrored = uniap.features(np.ascontiguousarray(image[:, ::-1])).flip(2)
        for centre, found in swept.items():
            found.append((sweep(uniap, plain, centre), sweep(uniap, mirrored, centre)))
        tell()
    if spread < 1e-5:
        raise UserError("Every token of every picture is alike: these features tell nothing apart")
    made = []
    for centre, pairs in swept.items():
        counts = np.array([[effective(grid) for grid in pair[0]] for pair in pairs])
        levels = chosen_levels(np.median(counts, 0), wanted)
        stability = np.mean(
            [[coverage(pair[0][at], pair[1][at]) for at in levels] for pair in pairs], 0
        )
        taus = tuple(LADDER[at] for at in levels)
        made.append(Found(taus, centre, counts[:, levels], stability))
    return sorted(made, key=lambda found: -float(found.stability.mean()))


def sweep(uniap: UniAP, features: Tensor, centre: bool) -> np.ndarray:
    """(thresholds, rows, columns) labels at every threshold of the ladder."""
    if centre:
        features = features - features.mean((1, 2), keepdim=True)
    found = uniap.agglomerated(features, thresholds=LADDER, max_instances=1)
    return found.labels[:, 0].cpu().numpy().astype(np.int32)


def effective(labels: np.ndarray) -> float:
    """How many regions of like size a partition amounts to: e to the entropy of their areas.

    Specks beside one large region count for next to nothing, and merging never makes it more.

    >>> effective(np.array([0, 0, 1, 1])), round(effective(np.array([0] * 999 + [1])), 2)
    (2.0, 1.01)
    """
    share = np.bincount(labels.ravel()) / labels.size
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def chosen_levels(counts: np.ndarray, wanted: Sequence[float]) -> list[int]:
    """Which thresholds leave most nearly the wanted numbers, a different one each.

    >>> chosen_levels(np.array([90.0, 50, 40, 20, 9, 2, 1]), [40, 10])
    [2, 4]
    """
    found: list[int] = []
    for number in sorted(wanted, reverse=True):
        rest = np.arange(found[-1] + 1 if found else 0, len(counts))
        if not len(rest):
            break
        gap = np.abs(np.log(counts[rest] / number))
        found.append(int(rest[np.argmin(gap)]))
    return found


def coverage(first: np.ndarray, second: np.ndarray) -> float:
    """How well regions of the first partition are found in the second, by area, within 0..1."""
    (table,), size = overlaps(second[None], [first])
    return float(size @ table.max(1) / size.sum())


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    import yaml
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from primum.files import atomic_write
    from primum.segmentation.commands import layer
    from primum.segmentation.jobs.inputs import find_pictures
    from primum.segmentation.pictures import read_picture

    if not arguments.backbone:
        raise UserError("No backbone is named", remedy="--backbone NAME")
    console = Console()
    uniap = UniAP(
        "recommended", arguments.backbone, weights=arguments.weights,
        layer=layer(arguments.layer), size=arguments.size, device=arguments.device,
        thresholds=LADDER,
    )  # fmt: skip
    made = uniap.backbone
    console.print(
        f"backbone {made.name} ({made.label}), device {uniap.device}", markup=False, soft_wrap=True
    )
    files = find_pictures(arguments.input)
    step = max(1, len(files) / arguments.limit)
    images = []
    for place in range(min(arguments.limit, len(files))):
        try:
            images.append(read_picture(files[int(place * step)].file))
        except UserError as error:
            console.print(f"skipped: {error.problem}", markup=False)
    if not images:
        raise UserError("No picture can be read", file=arguments.input)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("pictures", total=len(images))
        found = tune(uniap, images, arguments.regions, lambda: progress.advance(bar))
    for place, one in enumerate(found):
        title = f"mean feature {'taken away' if one.centre else 'kept'}"
        table = Table(
            "level", "threshold", "effective regions (quartiles)", "stable when mirrored",
            title=title + (": chosen" if place == 0 else ""), title_justify="left",
        )  # fmt: skip
        for level, tau in enumerate(one.thresholds):
            low, middle, high = np.percentile(one.counts[:, level], [25, 50, 75])
            table.add_row(
                str(level + 1), f"{tau:g}", f"{middle:.1f} ({low:.1f} to {high:.1f})",
                f"{one.stability[level]:.3f}",
            )  # fmt: skip
        console.print(table)
    best = found[0]
    content: dict[str, Any] = {
        "backbone": made.name, "weights": made.weights, "size": made.size,
        "layer": made.layer if isinstance(made.layer, str) else list(made.layer),
        "preset": "recommended", "thresholds": list(best.thresholds), "centre": best.centre,
        "balance": uniap.options["balance"],
        "found": {
            "pictures": len(images),
            "effective_regions": np.median(best.counts, 0).round(2).tolist(),
            "stability": [round(float(value), 4) for value in best.stability],
        },
    }  # fmt: skip
    atomic_write(arguments.output, yaml.safe_dump(content, sort_keys=False))
    console.print(
        f"written: {arguments.output}\nnext:    primum segment FOLDER -o OUT --settings "
        f"{arguments.output}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    return 0
