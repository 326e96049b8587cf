"""How much UniAP had to do on given features, from the supernodes it found, and how fast a device
could do it at best: the roofline that `primum bench uniap` holds times against."""

from dataclasses import dataclass

import torch
from torch import Tensor

from primum_kernels.agglomeration import Agglomeration, agglomerate, grid_edges

# Dense half-precision tensor FLOP/s and bytes/s, as NVIDIA's data sheets have them
PEAKS = {
    "H200": (989e12, 4.8e12),
    "H100 PCIe": (756e12, 2.0e12),
    "H100 NVL": (835e12, 3.9e12),
    "H100": (989e12, 3.35e12),
    "A100": (312e12, 1.94e12),
}


@dataclass(frozen=True)
class Work:
    """One level of one image.

    Attributes:
        supernodes: Before the level's first pass.
        pairs: Touching supernodes.
        asked: Pairs whose cosine leaves them a chance, so that voters must be asked.
        pooled: Supernodes of the level's end that this level made.
        chosen: Supernodes that took part in semantic pooling.
        flops, bytes: The products, and every operand once through memory.
    """

    supernodes: int
    pairs: int
    asked: int
    pooled: int
    chosen: int
    flops: float
    bytes: float


def work(features: Tensor, **options: object) -> list[Work]:
    """Each level's work on one image (1, height, width, channels), counted on the CPU.

    Passes after the first are left out with `until-stable`: they look at few pairs each. What is
    counted is a floor, so a share of the roofline is never flattered.
    """
    features = features.cpu().float()
    _, height, width, channels = features.shape
    tokens = height * width
    every = dict(options) | {"min_area": 1, "max_instances": tokens}
    found = agglomerate(features, **every)  # type: ignore[arg-type]
    paper = every.get("similarity", "paper") == "paper"
    wanted = every.get("thresholds", (0.8, 0.7, 0.6, 0.5, 0.4))
    edges = grid_edges(height, width)
    feature = torch.nn.functional.normalize(features[0].flatten(0, 1), dim=1)
    labels = torch.arange(tokens)
    made = []
    for level, threshold in enumerate(wanted):  # type: ignore[arg-type, var-annotated]
        ends = labels[edges]
        pairs = ends[:, ends[0] != ends[1]].sort(0).values.unique(dim=1)
        supernodes = int(labels.max()) + 1
        alike = (feature[pairs[0]] * feature[pairs[1]]).sum(1)
        asked = int((0.6 * alike + 0.4 >= threshold).sum()) if paper else 0
        now = found.labels[level, 0].flatten()
        area, before = torch.bincount(now), torch.bincount(labels)
        first = torch.zeros(len(area), dtype=torch.long).scatter_reduce(
            0, now, torch.arange(tokens), "amin", include_self=False
        )
        pooled = len(area) if level == 0 and paper else int((area != before[labels[first]]).sum())
        chosen = min(len(area), int(every.get("max_semantic", 256)))  # type: ignore[call-overload]
        chosen = chosen if found.semantic is not None else 0
        votes = pooled if every.get("pooling", "vote") == "vote" else 0
        flops = 2.0 * channels * (len(alike) + asked * tokens + 2 * votes * tokens)
        flops += 2.0 * channels * chosen * (chosen + (tokens if paper else 0))
        moved = (supernodes + pooled + chosen) * channels * 4
        read = tokens * channels * 2 * ((asked > 0) + (votes > 0) + (chosen > 0 and paper))
        made.append(Work(supernodes, len(alike), asked, pooled, chosen, flops, float(moved + read)))
        feature, labels = features_of(found, level, feature, labels), now
    return made


def features_of(found: Agglomeration, level: int, feature: Tensor, labels: Tensor) -> Tensor:
    """Features of a level's supernodes: the table's, or those they had if they did not change."""
    now, table = found.labels[level, 0].flatten(), found.regions.of_image(0)
    first = torch.zeros(int(now.max()) + 1, dtype=torch.long).scatter_reduce(
        0, now, torch.arange(len(now)), "amin", include_self=False
    )
    kept = feature[labels[first]].clone()
    new = table.level == level
    kept[table.label[new]] = table.feature[new].float()
    return kept


def floor_seconds(levels: list[Work], device: str) -> float | None:
    """Least time of one image: each level bound by arithmetic or by memory; None if unknown."""
    for name, (flops, bandwidth) in PEAKS.items():
        if all(word in device for word in name.split()):
            return sum(max(one.flops / flops, one.bytes / bandwidth) for one in levels)
    return None
