"""Class-agnostic segmentation: is every object found, whatever it is? (COCO, UVO, LVIS, SA-1B)"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primum.benchmarks.benchmark import Judgement
from primum.benchmarks.cases import Case
from primum.benchmarks.coco import Choice, coco_cases, true_masks
from primum.benchmarks.images import ImageBenchmark
from primum.benchmarks.results import Result
from primum.benchmarks.segments import Segments, pooled_masks
from primum.benchmarks.subjects import Answer
from primum.errors import UserError
from primum.metrics.mask_ap import AP_DRAWS, ImageMatches, mask_ap_scores, match_image
from primum.metrics.score import Score


class ClassAgnostic(ImageBenchmark):
    """COCO's AP and AR with all categories as one.

    Every picture of the file counts, whether or not it has predictions. LVIS and SA-1B do not label
    everything: a right mask of an unlabelled thing counts as wrong, so AP is low and AR the figure
    to read.

    Args:
        annotations: COCO-type .json (COCO, UVO, LVIS), or a folder of SA-1B's .json files.
        images: Folder of the pictures; None where predictions are evaluated.
        kind: `segm` or `bbox`.
        most: Detections an image that AP is taken at (CutLER 100, UnSAM 1000).
        recalls: Detections an image that AR is taken at.
        draws: Bootstrap samples of AP.
        limit: Pictures at most.
        subset: Which pictures count, by their names: `primum.segmentation.data.subsets.Subset`.
    """

    version = "1"

    def __init__(
        self,
        annotations: str,
        *,
        images: str | None = None,
        kind: str = "segm",
        most: int = 100,
        recalls: Sequence[int] = (1, 10, 100, 1000),
        draws: int = AP_DRAWS,
        limit: int | None = None,
        subset: Choice | None = None,
        name: str = "class_agnostic",
        title: str = "",
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(name, title=title, batch_size=batch_size, seed=seed)
        if kind not in ("segm", "bbox"):
            raise UserError(f"There is no kind={kind}", remedy="use segm or bbox")
        self.annotations, self.images, self.kind = annotations, images, kind
        self.most, self.recalls, self.draws = most, tuple(recalls), draws
        self.limit, self.subset = limit, subset

    def load_cases(self) -> list[Case]:
        return coco_cases(self.annotations, self.images, self.limit, self.subset)

    def facts(self) -> dict[str, Any]:
        return {
            "annotations": Path(self.annotations).name,
            "kind": self.kind,
            "max_detections": max(self.most, *self.recalls),
            "limit": self.limit,
            "subset": None if self.subset is None else repr(self.subset),
        }

    def truth(self, case: Case) -> Segments:
        truths = [one for one in true_masks(case, self.kind) if not one["iscrowd"]]
        return Segments(masks=[one | {"score": 1.0} for one in truths])

    def judge(self, case: Case, answer: Answer) -> Judgement:
        given: Segments = answer.text
        most = max(self.most, *self.recalls)
        masks = given.masks
        if not masks and given.partitions is not None:
            masks = pooled_masks(given.partitions, most, "persistence")
        field = "segmentation" if self.kind == "segm" else "bbox"
        if any(field not in mask for mask in masks):
            raise UserError(
                f"Predictions of picture {case.id} have no {field}",
                remedy="benchmark.kind=bbox evaluates boxes, segm masks",
            )
        found = match_image(masks, true_masks(case, self.kind), most, self.kind)
        wanted = int(found.truths[0])
        hits = int((found.matched & ~found.ignored)[0, 0].sum())
        label = f"{hits} of {wanted} found" if wanted else "nothing to find"
        return Judgement(
            {"IoU 0.5": {"label": label, "evidence": f"{len(masks)} {field}s"}},
            {"recall": hits / wanted if wanted else None},
            packed(found),
        )

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        what = "masks" if self.kind == "segm" else "boxes"
        return mask_ap_scores(
            [unpacked(result.record) for result in results],
            f"COCO rules, {what}, categories ignored (useCats=0), every picture counts",
            most=self.most,
            recalls=self.recalls,
            draws=self.draws,
        )

    def sections(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        counts = [len(result.record["scores"]) for result in results]
        return [
            {
                "title": "How much was predicted",
                "note": "Pictures without a prediction count as answered with nothing.",
                "header": ["pictures", "without prediction", "predictions", "true regions"],
                "rows": [
                    [
                        len(results),
                        sum(count == 0 for count in counts),
                        sum(counts),
                        sum(result.record["truths"][0] for result in results),
                    ]
                ],
            }
        ]


def packed(found: ImageMatches) -> dict[str, Any]:
    """Matches as JSON: the two tables as compressed bits, the scores as they are."""
    bits = np.packbits(np.stack([found.matched, found.ignored]))
    return {
        "scores": found.scores.tolist(),
        "truths": found.truths.tolist(),
        "shape": list(found.matched.shape),
        "matched_ignored": base64.b64encode(zlib.compress(bits.tobytes())).decode(),
    }


def unpacked(record: dict[str, Any]) -> ImageMatches:
    """What `packed` was given."""
    shape = (2, *record["shape"])
    bytes_ = np.frombuffer(zlib.decompress(base64.b64decode(record["matched_ignored"])), np.uint8)
    bits = np.unpackbits(bytes_, count=int(np.prod(shape))).reshape(shape).astype(bool)
    return ImageMatches(np.array(record["scores"]), bits[0], bits[1], np.array(record["truths"]))
