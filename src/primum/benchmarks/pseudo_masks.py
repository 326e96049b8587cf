"""Pseudo-masks against true regions: covering, best overlap at mask budgets, seconds an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primum.benchmarks.benchmark import Judgement
from primum.benchmarks.cases import Case
from primum.benchmarks.coco import Choice, coco_cases, true_masks, without_crowds
from primum.benchmarks.images import ImageBenchmark
from primum.benchmarks.results import Result
from primum.benchmarks.segments import Segments, pooled_masks
from primum.benchmarks.subjects import Answer
from primum.extras import require
from primum.metrics.best_overlap import BUDGETS, best_overlap_scores, best_overlaps
from primum.metrics.resampling import ratio_of_sums, resampled_score
from primum.metrics.score import Score


class PseudoMasks(ImageBenchmark):
    """How well masks made without labels contain the regions that people marked.

    Args:
        annotations: COCO-type .json, or a folder of SA-1B's .json files; crowds are left out.
        images: Folder of the pictures; None where predictions are evaluated.
        budgets: Masks an image; covering is taken at the largest.
        limit: Pictures at most.
        subset: Which pictures count, by their names: `primum.segmentation.data.subsets.Subset`.
    """

    version = "1"

    def __init__(
        self,
        annotations: str,
        *,
        images: str | None = None,
        budgets: Sequence[int] = BUDGETS,
        limit: int | None = None,
        subset: Choice | None = None,
        name: str = "pseudo_masks",
        title: str = "",
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(name, title=title, batch_size=batch_size, seed=seed)
        self.annotations, self.images = annotations, images
        self.budgets, self.limit, self.subset = tuple(sorted(budgets)), limit, subset

    def load_cases(self) -> list[Case]:
        return coco_cases(self.annotations, self.images, self.limit, self.subset)

    def facts(self) -> dict[str, Any]:
        return {
            "annotations": Path(self.annotations).name,
            "budgets": list(self.budgets),
            "limit": self.limit,
            "subset": None if self.subset is None else repr(self.subset),
        }

    def truth(self, case: Case) -> Segments:
        return Segments(
            masks=[dict(one) | {"score": 1.0} for one in without_crowds(true_masks(case))]
        )

    def judge(self, case: Case, answer: Answer) -> Judgement:
        given: Segments = answer.text
        coco = require("pycocotools.mask", "segmentation")
        most = max(self.budgets)
        masks = given.masks
        if not masks and given.partitions is not None:
            masks = pooled_masks(given.partitions, most)
        regions = [truth["segmentation"] for truth in without_crowds(true_masks(case))]
        overlap = best_overlaps([mask["segmentation"] for mask in masks], regions, self.budgets)
        pixels = np.asarray(coco.area(regions), float) if regions else np.zeros(0)
        own = float(overlap[-1].mean()) if regions else None
        return Judgement(
            {
                "best overlap": {
                    "label": "nothing to find" if own is None else f"mIoU {own:.2f}",
                    "evidence": f"{len(masks)} masks, {len(regions)} regions",
                }
            },
            {"best_overlap": own},
            {
                "overlap": overlap.sum(1).tolist(),
                "regions": len(regions),
                "covered": float(pixels @ overlap[-1]),
                "pixels": float(pixels.sum()),
                "masks": len(masks),
            },
        )

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        rows = [result.record for result in results]
        most = max(self.budgets)
        scores = best_overlap_scores(
            np.array([row["overlap"] for row in rows]),
            np.array([row["regions"] for row in rows], float),
            self.budgets,
            "mean over true regions of the best overlap",
        )
        scores["covering"] = resampled_score(
            "covering", len(rows),
            ratio_of_sums(*(np.array([row[key] for row in rows]) for key in ("covered", "pixels"))),
            f"best overlap of true regions weighted by their pixels, first {most} masks",
        )  # fmt: skip
        timed = [result.seconds for result in results if result.seconds is not None]
        title, unit = "seconds an image", "ratio"
        if len(timed) < len(results):
            scores["seconds"] = Score.unavailable(title, "answers were made before", False, unit)
        else:
            scores["seconds"] = resampled_score(
                title, len(timed), ratio_of_sums(np.array(timed), np.ones(len(timed))),
                "wall clock of the candidate on the report's device, reading the picture left out "
                "where the candidate times itself", higher_is_better=False, unit=unit,
            )  # fmt: skip
        return scores
