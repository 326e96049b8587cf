"""Panoptic quality of classes, or of clusters that are mapped to them (COCO, Cityscapes)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primum.benchmarks.benchmark import Judgement
from primum.benchmarks.cases import Case
from primum.benchmarks.images import ImageBenchmark, existing, picture, spread
from primum.benchmarks.predicted import panoptic_row, read_json, read_panoptic_png
from primum.benchmarks.results import Result
from primum.benchmarks.segments import Segments
from primum.benchmarks.subjects import Answer
from primum.errors import UserError
from primum.files import sha256
from primum.metrics.cluster_mapping import MAPPINGS
from primum.metrics.panoptic_quality import (
    SegmentOverlaps,
    panoptic_counts,
    panoptic_scores,
    quality,
    relabelled,
    segment_overlaps,
)
from primum.metrics.score import Score


class Panoptic(ImageBenchmark):
    """Panoptic quality on files in COCO's panoptic format.

    Args:
        annotations: COCO panoptic .json {images, annotations, categories}.
        maps: Folder of its PNG files; None: beside the .json, named like it.
        images: Folder of the pictures; None where predictions are evaluated.
        mapping: What a prediction's categories are: `given` (classes), or clusters that are mapped
            to classes by pixels shared, as `hungarian`, `many_to_one` or
            `hungarian_then_majority` do (see `primum.metrics.cluster_mapping`).
        fit: `evaluated`: clusters are mapped on the evaluated pictures themselves, as the
            literature does; or a COCO panoptic .json of training pictures, whose predictions are
            then needed too.
        fit_maps: Folder of that file's PNGs.
        fit_images: Folder of that file's pictures.
        limit: Pictures at most.
    """

    version = "1"

    def __init__(
        self,
        annotations: str,
        *,
        maps: str | None = None,
        images: str | None = None,
        mapping: str = "given",
        fit: str = "evaluated",
        fit_maps: str | None = None,
        fit_images: str | None = None,
        limit: int | None = None,
        name: str = "panoptic",
        title: str = "",
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(name, title=title, batch_size=batch_size, seed=seed)
        known = ("given", "hungarian", "many_to_one", "hungarian_then_majority")
        if mapping not in known:
            raise UserError(f"There is no mapping={mapping}", remedy=f"use {', '.join(known)}")
        self.annotations, self.maps, self.images = annotations, maps, images
        self.mapping, self.fit, self.limit = mapping, fit, limit
        self.fit_maps, self.fit_images = fit_maps, fit_images
        self.categories: dict[int, bool] = {}  # id -> whether it is a thing
        self.names: dict[int, str] = {}

    def load_cases(self) -> list[Case]:
        cases = self.read(self.annotations, self.maps, self.images, "evaluated")
        if self.mapping != "given" and self.fit != "evaluated":
            cases += self.read(self.fit, self.fit_maps, self.fit_images, "fitted")
        return cases

    def read(self, file: str, maps: str | None, images: str | None, role: str) -> list[Case]:
        """The cases of one panoptic file."""
        source = existing(file, "panoptic file")
        content = read_json(source)
        if not isinstance(content, dict) or "categories" not in content:
            raise UserError("This is no COCO panoptic file: it has no `categories`", file=source)
        self.categories = {row["id"]: bool(row.get("isthing", 1)) for row in content["categories"]}
        self.names = {row["id"]: str(row.get("name", row["id"])) for row in content["categories"]}
        folder = existing(maps or source.with_suffix(""), "folder of panoptic maps")
        shown = None if images is None else existing(images, "folder of pictures")
        by_id = {image["id"]: image for image in content.get("images", [])}
        rows = content["annotations"]
        if role == "evaluated":
            rows = spread(rows, self.limit)
        cases = []
        for row in rows:
            image = by_id.get(row["image_id"], {})
            map_file, segments = panoptic_row(row, folder)
            existing(map_file, "panoptic map")
            name = image.get("file_name", Path(row["file_name"]).with_suffix(".jpg").name)
            picture_file = None if shown is None else existing(shown / name, "picture")
            size = [image["height"], image["width"]] if "height" in image else None
            cases.append(
                Case(
                    id=str(row["image_id"]),
                    messages=picture(name, picture_file),
                    reference={
                        "size": size or list(read_panoptic_png(map_file).shape),
                        "segments": {str(one): category for one, category in segments.items()},
                        "crowd": [s["id"] for s in row["segments_info"] if s.get("iscrowd")],
                        "sha256": sha256(map_file),
                    },
                    tags={"role": role},
                    files={"truth": map_file}
                    | ({} if picture_file is None else {"image": picture_file}),
                )
            )
        return cases

    def facts(self) -> dict[str, Any]:
        return {
            "annotations": Path(self.annotations).name,
            "mapping": self.mapping,
            "fit": Path(self.fit).name,
            "limit": self.limit,
        }

    def truth(self, case: Case) -> Segments:
        segments, categories = self.true_segments(case)
        return Segments(segments=segments, categories=categories)

    def true_segments(self, case: Case) -> tuple[np.ndarray, dict[int, int]]:
        """(height, width) segment ids and the category of each."""
        known = {int(one): category for one, category in case.reference["segments"].items()}
        return read_panoptic_png(case.files["truth"]), known

    def judge(self, case: Case, answer: Answer) -> Judgement:
        given: Segments = answer.text
        truth, categories = self.true_segments(case)
        segments = given.segments if given.segments is not None else np.zeros_like(truth)
        overlaps = segment_overlaps(
            segments, given.categories, truth, categories, case.reference["crowd"]
        )
        own = float("nan")
        if self.mapping == "given":
            own = float(quality(panoptic_counts(overlaps, list(self.categories)))[0])
        label = f"PQ {own:.2f}" if own == own else f"{len(overlaps.predicted)} segments"
        evidence = f"{len(overlaps.predicted)} segments, {len(overlaps.truth)} true ones"
        return Judgement(
            {"panoptic": {"label": label, "evidence": evidence}},
            {"pq": own if own == own else None},
            overlaps._asdict(),
        )

    def mapped(
        self, images: Sequence[SegmentOverlaps], fit_on: Sequence[SegmentOverlaps]
    ) -> list[SegmentOverlaps]:
        """The images with clusters turned into classes."""
        clusters = sorted({one for image in fit_on for one, _ in image.predicted})
        row = {cluster: index for index, cluster in enumerate(clusters)}
        column = {category: index for index, category in enumerate(self.categories)}
        confusion = np.zeros((len(clusters), len(column)))
        for image in fit_on:
            for i, j, pixels in image.shared:
                category, _, crowd = image.truth[j]
                if not crowd and category in column:
                    confusion[row[image.predicted[i][0]], column[category]] += pixels
        classes = list(self.categories)
        fitted = MAPPINGS[self.mapping](confusion).tolist() if clusters else []
        meaning = {
            cluster: classes[index]
            for cluster, index in zip(clusters, fitted, strict=True)
            if index >= 0
        }
        stuff = [category for category, thing in self.categories.items() if not thing]
        return [relabelled(image, meaning, stuff) for image in images]

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        def overlaps(role: str) -> list[SegmentOverlaps]:
            return [SegmentOverlaps(**one.record) for one in results if one.tags["role"] == role]

        images = overlaps("evaluated")
        protocol = "categories as given"
        if self.mapping != "given":
            elsewhere = self.fit != "evaluated"
            images = self.mapped(images, overlaps("fitted") if elsewhere else images)
            on = "training pictures" if elsewhere else "the evaluated pictures"
            protocol = f"clusters mapped by {self.mapping}, fitted once on {on} by shared pixels"
        counts = np.array([panoptic_counts(image, list(self.categories)) for image in images])
        return panoptic_scores(counts, np.array(list(self.categories.values())), protocol)
