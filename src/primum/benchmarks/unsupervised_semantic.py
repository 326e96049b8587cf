"""Unsupervised semantic segmentation: clusters of pixels, and what they turn out to mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primum.benchmarks.benchmark import Judgement
from primum.benchmarks.cases import Case
from primum.benchmarks.classes import class_table
from primum.benchmarks.images import ImageBenchmark, existing, picture, spread
from primum.benchmarks.predicted import read_map
from primum.benchmarks.results import Result
from primum.benchmarks.segments import Segments
from primum.benchmarks.subjects import Answer
from primum.errors import UserError
from primum.files import sha256
from primum.metrics.cluster_mapping import (
    MAPPINGS,
    SEMANTIC_DRAWS,
    pixel_confusion,
    semantic_scores,
)
from primum.metrics.score import Score

VOID = 255  # of 8-bit label maps: no prediction


class UnsupervisedSemantic(ImageBenchmark):
    """Pixel accuracy and mIoU of clusters, under every mapping that the literature calls Hungarian.

    Args:
        truths: Folder of true label maps (.png).
        clusters: How many clusters a prediction may hold (0..clusters-1); 255, unless it is one of
            them, and negative numbers stand for no prediction.
        classes: `coco_stuff_27`, `cityscapes_27`, `cityscapes_19`, or a number of classes.
        images: Folder of the pictures; None where predictions are evaluated.
        suffix: What the names of label maps have behind the picture's (`_gtFine_labelIds`).
        image_suffix: What the names of pictures have instead (`_leftImg8bit.png`, `.jpg`).
        listed: A text file with one name a line: the pictures that count, as in a curated subset.
        mappings: Which ones; `identity` for predictions that are classes already.
        fit: Folder of true label maps of training pictures. With it, mappings are also fitted on
            their predictions, which the candidate then has to make as well.
        fit_images: Folder of the training pictures.
        crop: Scale the shorter side to so many pixels, nearest, and keep the centre (STEGO: 320);
            None: whole pictures.
        draws: Bootstrap samples; each fits its mapping again.
        limit: Pictures at most, of either kind.
    """

    version = "1"

    def __init__(
        self,
        truths: str,
        clusters: int,
        *,
        classes: str | int = "coco_stuff_27",
        images: str | None = None,
        suffix: str = "",
        image_suffix: str = ".jpg",
        listed: str | None = None,
        mappings: Sequence[str] = ("hungarian", "many_to_one", "hungarian_then_majority"),
        fit: str | None = None,
        fit_images: str | None = None,
        crop: int | None = None,
        draws: int = SEMANTIC_DRAWS,
        limit: int | None = None,
        name: str = "unsupervised_semantic",
        title: str = "",
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(name, title=title, batch_size=batch_size, seed=seed)
        unknown = set(mappings) - set(MAPPINGS)
        if unknown or not mappings:
            raise UserError(
                f"There is no mapping {', '.join(sorted(unknown)) or 'chosen'}",
                remedy=f"use {', '.join(MAPPINGS)}",
            )
        self.truths, self.images, self.fit, self.fit_images = truths, images, fit, fit_images
        self.clusters, self.mappings, self.crop = clusters, tuple(mappings), crop
        self.classes, (self.table, self.num_classes) = classes, class_table(str(classes))
        self.suffix, self.image_suffix, self.listed = suffix, image_suffix, listed
        self.draws, self.limit = draws, limit

    def load_cases(self) -> list[Case]:
        cases = self.read(self.truths, self.images, "evaluated")
        if self.fit is not None:
            cases += self.read(self.fit, self.fit_images, "fitted")
        return cases

    def read(self, truths: str, images: str | None, role: str) -> list[Case]:
        """A case a label map."""
        from PIL import Image

        folder = existing(truths, "folder of label maps")
        shown = None if images is None else existing(images, "folder of pictures")
        files = sorted(folder.rglob(f"*{self.suffix}.png"))
        names = {file: file.stem.removesuffix(self.suffix) for file in files}
        if self.listed is not None and role == "evaluated":
            wanted = existing(self.listed, "list of pictures").read_text("utf-8").split()
            known = {name: file for file, name in names.items()}
            missing = [name for name in wanted if name not in known]
            if missing:
                raise UserError(f"{len(missing)} listed pictures have no label map, {missing[0]} "
                                "among them", file=folder)  # fmt: skip
            files = [known[name] for name in wanted]
        cases = []
        for file in spread(files, self.limit):
            name = names[file]
            image = None
            if shown is not None:
                below = file.parent.relative_to(folder) / (name + self.image_suffix)
                image = existing(shown / below, "picture")
            with Image.open(file) as opened:
                width, height = opened.size
            cases.append(
                Case(
                    id=name if role == "evaluated" else f"{role}/{name}",
                    messages=picture(name + self.image_suffix, image),
                    reference={"size": [height, width], "sha256": sha256(file)},
                    tags={"role": role},
                    files={"truth": file} | ({} if image is None else {"image": image}),
                )
            )
        return cases

    def facts(self) -> dict[str, Any]:
        return {
            "classes": str(self.classes), "clusters": self.clusters, "crop": self.crop,
            "fit": None if self.fit is None else Path(self.fit).name, "limit": self.limit,
        }  # fmt: skip

    def true_classes(self, case: Case) -> np.ndarray:
        """(height, width) classes, -1 where a pixel has none."""
        return self.table[read_map(case.files["truth"])]

    def truth(self, case: Case) -> Segments:
        return Segments(labels=self.true_classes(case))

    def judge(self, case: Case, answer: Answer) -> Judgement:
        given: Segments = answer.text
        truth = self.true_classes(case)
        labels = given.labels if given.labels is not None else np.full_like(truth, -1)
        if (labels[labels != VOID] >= self.clusters).any():
            raise UserError(
                f"Picture {case.id} has labels up to {labels[labels != VOID].max()}, more than the "
                f"{self.clusters} clusters that were announced",
                remedy="set benchmark.clusters to one more than the largest label of all pictures; "
                "255 and negative numbers stand for no prediction",
            )
        counts = pixel_confusion(
            centred(labels, self.crop), centred(truth, self.crop), self.clusters, self.num_classes
        )
        rows, columns = np.nonzero(counts)
        best = counts[:-1].max(1).sum() / max(1, counts.sum())
        return Judgement(
            {"clusters": {
                "label": f"purity {best:.2f}",
                "evidence": f"{len(np.unique(rows))} clusters on {len(np.unique(columns))} classes",
            }},
            {"purity": float(best) if counts.sum() else None},
            {"pixels": [[int(r), int(c), int(counts[r, c])]
                        for r, c in zip(rows, columns, strict=True)]},
        )  # fmt: skip

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        def table(role: str) -> np.ndarray:
            own = [one.record["pixels"] for one in results if one.tags["role"] == role]
            counts = np.zeros((len(own), self.clusters + 1, self.num_classes))
            for image, cells in enumerate(own):
                for row, column, pixels in cells:
                    counts[image, row, column] = pixels
            return counts

        evaluated = table("evaluated")
        seen = "whole pictures" if self.crop is None else f"centre {self.crop} px"
        scores: dict[str, Score] = {}
        for mapping in self.mappings:
            made = semantic_scores(evaluated, mapping, draws=self.draws, protocol=seen)
            scores |= {f"{key}_{mapping}": named(one, mapping) for key, one in made.items()}
            if self.fit is not None and mapping != "identity":
                made = semantic_scores(
                    evaluated, mapping, fitted=table("fitted").sum(0),
                    fitted_on="training pictures", draws=self.draws, protocol=seen,
                )  # fmt: skip
                how = f"{mapping}, fitted on train"
                scores |= {f"{key}_{mapping}_train": named(one, how) for key, one in made.items()}
        return scores

    def sections(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        empty = sum(
            all(row == self.clusters for row, _, _ in one.record["pixels"]) for one in results
        )
        return [{
            "title": "Pictures without a prediction",
            "note": "They count: each of their pixels is wrong.",
            "header": ["pictures", "without prediction"],
            "rows": [[len(results), empty]],
        }]  # fmt: skip


def named(score: Score, mapping: str) -> Score:
    """The score with its mapping in its name: two mappings are never to be confused."""
    return score._replace(name=f"{score.name} ({mapping.replace('_', ' ')})")


def centred(labels: np.ndarray, crop: int | None) -> np.ndarray:
    """The centre square of labels whose shorter side was scaled to `crop` pixels, nearest."""
    if crop is None:
        return labels
    height, width = labels.shape
    scale = crop / min(height, width)
    rows, columns = max(crop, round(height * scale)), max(crop, round(width * scale))
    top, left = (rows - crop) // 2, (columns - crop) // 2
    y = ((np.arange(crop) + top) * height) // rows
    x = ((np.arange(crop) + left) * width) // columns
    return labels[y[:, None], x]
