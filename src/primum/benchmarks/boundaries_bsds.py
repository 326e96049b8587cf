"""BSDS500: how well a sweep of partitions agrees with the regions and boundaries people drew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primum.benchmarks.benchmark import Judgement
from primum.benchmarks.cases import Case
from primum.benchmarks.images import ImageBenchmark, existing, picture, spread
from primum.benchmarks.results import Result
from primum.benchmarks.segments import Segments, pooled_masks, run_length
from primum.benchmarks.subjects import Answer
from primum.errors import UserError
from primum.extras import require
from primum.files import sha256
from primum.metrics.best_overlap import BUDGETS, best_overlap_scores, best_overlaps
from primum.metrics.boundary_f import BoundaryCounts, boundary_counts, boundary_scores
from primum.metrics.covering import covering_counts, covering_scores
from primum.metrics.score import Score
from primum.metrics.sweep_overlap import RANKS, sweep_overlaps

GIVEN = "given"  # masks in the candidate's own order


class BoundariesBsds(ImageBenchmark):
    """BSDS500 (Arbelaez et al., 2011): region covering, boundary F, best overlap at mask budgets.

    A candidate gives a sweep of partitions an image, the same number for every image: scale s of
    one image belongs with scale s of another. A method without a sweep gives one.

    Args:
        data: Folder with `images/<split>/*.jpg` and `groundTruth/<split>/*.mat`.
        split: `train`, `val` or `test`.
        boundaries: Also match boundaries (about ten seconds an image and twenty scales).
        budgets: Masks an image of best-overlap mIoU.
        rank: Where a candidate gives no `masks` in its own order: which regions of its sweep come
            first. `area`, `persistence` and `extent` (persistence times the root of the area)
            order the distinct regions of all scales, `area_apart` and so on skip those that an
            earlier one overlaps by more than 0.7, `scale_<i>` takes the largest of one partition.
        limit: Pictures at most, evenly spread over the split.
    """

    version = "2"

    def __init__(
        self,
        data: str,
        *,
        split: str = "test",
        boundaries: bool = True,
        budgets: Sequence[int] = BUDGETS,
        rank: str = "area",
        limit: int | None = None,
        name: str = "boundaries_bsds",
        title: str = "",
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(name, title=title, batch_size=batch_size, seed=seed)
        if rank.removesuffix("_apart") not in RANKS and not re.fullmatch(r"scale_\d+", rank):
            known = ", ".join(f"{name}, {name}_apart" for name in RANKS)
            raise UserError(f"There is no rank={rank}", remedy=f"{known} or scale_0 ...")
        self.data, self.split, self.boundaries = Path(data).expanduser(), split, boundaries
        self.budgets, self.rank, self.limit = tuple(budgets), rank, limit

    def load_cases(self) -> list[Case]:
        folder = existing(self.data / "images" / self.split, f"BSDS500 split {self.split!r}")
        files = spread(sorted(folder.glob("*.jpg")), self.limit)
        cases = []
        for file in files:
            truth = self.data / "groundTruth" / self.split / f"{file.stem}.mat"
            existing(truth, "ground truth")
            drawn = read_annotations(truth)
            cases.append(
                Case(
                    id=file.stem,
                    messages=picture(file.name, file),
                    reference={
                        "size": list(drawn[0].shape),
                        "annotators": len(drawn),
                        "sha256": sha256(truth),
                    },
                    tags={"split": self.split},
                    files={"image": file, "truth": truth},
                )
            )
        return cases

    def facts(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "limit": self.limit,
            "boundaries": self.boundaries,
            "budgets": list(self.budgets),
            "rank": self.rank,
        }

    def truth(self, case: Case) -> Segments:
        """The annotators' own partitions, each as one scale: `best` is 100, ODS need not be."""
        drawn = read_annotations(case.files["truth"])
        regions = [mask for one in drawn for mask in pooled_masks(one[None])]
        return Segments(partitions=np.stack(drawn), masks=regions)

    def judge(self, case: Case, answer: Answer) -> Judgement:
        given: Segments = answer.text
        drawn = read_annotations(case.files["truth"])
        partitions = given.partitions
        if partitions is None:  # nothing was said: one region that is the whole picture
            partitions = np.zeros((1, *drawn[0].shape), np.int64)
        counts = covering_counts(partitions, drawn)
        if given.masks:
            size = (drawn[0].shape[0], drawn[0].shape[1])
            true = [run_length(one == label, size) for one in drawn for label in np.unique(one)]
            coded = [mask["segmentation"] for mask in given.masks[: max(self.budgets)]]
            overlap = {GIVEN: best_overlaps(coded, true, self.budgets).sum(1).tolist()}
            regions = len(true)
        else:
            overlap, regions = sweep_overlaps(partitions, drawn, self.budgets)
        record: dict[str, Any] = {
            "covered": counts.covered.round(3).tolist(),
            "best": round(counts.best, 3),
            "total": counts.total,
            "overlap": overlap,
            "regions": regions,
            "scales": [len(np.unique(one)) for one in partitions],
        }
        if self.boundaries:
            found = boundary_counts(partitions, drawn)
            record["boundary"] = {name: one.tolist() for name, one in found._asdict().items()}
        own = float(counts.covered.max() / counts.total)
        label = f"covering {own:.2f} at its best scale"
        evidence = f"{len(drawn)} annotators, {regions} regions"
        return Judgement({"covering": {"label": label, "evidence": evidence}}, {"covering": own},
                         record)  # fmt: skip

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        rows = [result.record for result in results]
        scales = {len(row["covered"]) for row in rows}
        if len(scales) > 1:
            raise UserError(
                f"The images have sweeps of {', '.join(map(str, sorted(scales)))} scales, so none "
                "can be chosen for all",
                remedy="give the same number of partitions for every image, in the same order",
            )
        total = np.array([row["total"] for row in rows])
        scores = covering_scores(
            np.array([row["covered"] for row in rows]),
            np.array([row["best"] for row in rows]),
            total,
        )
        rank = GIVEN if all(GIVEN in row["overlap"] for row in rows) else self.rank
        if any(rank not in row["overlap"] for row in rows):
            raise UserError(
                f"Not every picture has masks in the order {rank!r}",
                remedy="give masks for every picture or for none, or choose another benchmark.rank",
            )
        scores |= best_overlap_scores(
            np.array([row["overlap"][rank] for row in rows]),
            np.array([row["regions"] for row in rows], float),
            self.budgets,
            f"mean over all annotators' regions of the best overlap, masks by {rank}",
        )
        if self.boundaries:
            columns = (
                np.array([row["boundary"][name] for row in rows]) for name in BoundaryCounts._fields
            )
            scores |= boundary_scores(BoundaryCounts(*columns))
        return scores


def read_annotations(file: Path) -> list[np.ndarray]:
    """Each annotator's (height, width) labels of a BSDS500 .mat file, from 0.

    Raises:
        UserError: It cannot be read.
    """
    loadmat = require("scipy.io", "segmentation").loadmat
    try:
        cells = loadmat(file)["groundTruth"][0]
        return [cell["Segmentation"][0, 0].astype(np.int64) - 1 for cell in cells]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"This is no BSDS500 ground truth: {error}", file=file) from None
