"""Layout and text by the PP-DocLayout and PP-OCR models of transformers, where weights are had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from primum.language.source import explained
from primum.parsing.drafters.grouping import regions_from
from primum.parsing.drafters.ocr import covering
from primum.parsing.drafters.saved import kind
from primum.parsing.regions import Box, Kind, Line, Region

ALIKE = 1.15  # lines of a batch are stretched to one width: this much at most


class NativeDrafter:
    """PP-OCR lines, grouped by PP-DocLayout's boxes in its reading order.

    Args:
        detector: Hub id or directory of a PP-OCR detector (v5 mobile or server, v6 small, medium).
        recogniser: Of a PP-OCR recogniser (v5 mobile or server, v6 tiny or small).
        layout: Of a PP-DocLayout model (v2, v3, v4); None groups lines by the space between them.
        device: Where they run.
        batch: Lines recognised at once.
        least_score: Lines the recogniser is less sure of are left out.
        certain: Layout boxes of a lower score are left out.
        covered: Below this share of lines inside layout boxes the layout is not used.
    """

    name = "native"

    def __init__(
        self,
        detector: str = "PaddlePaddle/PP-OCRv5_mobile_det_safetensors",
        recogniser: str = "PaddlePaddle/PP-OCRv6_small_rec_safetensors",
        layout: str | None = "PaddlePaddle/PP-DocLayoutV3_safetensors",
        device: str = "cpu",
        batch: int = 16,
        least_score: float = 0.5,
        certain: float = 0.5,
        covered: float = 0.6,
    ) -> None:
        self.names = (detector, recogniser, layout)
        self.device, self.batch = device, batch
        self.least_score, self.certain, self.covered = least_score, certain, covered
        self._loaded: list[tuple[Any, Any] | None] = []

    def load(self) -> None:
        """Read the weights, once.

        Raises:
            UserError: They cannot be had.
        """
        if self._loaded:
            return
        from transformers import AutoModelForObjectDetection, AutoModelForTextRecognition

        detector, recogniser, layout = self.names
        found: list[tuple[Any, Any] | None] = [
            self._model(detector, AutoModelForObjectDetection),
            self._model(recogniser, AutoModelForTextRecognition),
            None if layout is None else self._model(layout, AutoModelForObjectDetection),
        ]
        self._loaded = found

    def _model(self, name: str, auto: Any) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor

        where = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
        with explained(name, where):
            processor = AutoImageProcessor.from_pretrained(where)
            model = auto.from_pretrained(where)
        return processor, model.eval().to(self.device)

    @torch.inference_mode()
    def lines(self, image: Any) -> list[Line]:
        """Recognised lines of a PIL image."""
        self.load()
        picture = image.convert("RGB")
        boxes = self._boxes(picture)
        order = sorted(range(len(boxes)), key=lambda i: boxes[i].width / boxes[i].height)
        lines: dict[int, Line] = {}
        group: list[int] = []
        for index in [*order, -1]:
            full = len(group) == self.batch or index < 0
            if group and (full or not _alike(boxes[group[0]], boxes[index])):
                for one, line in zip(group, self._read(picture, boxes, group), strict=True):
                    lines[one] = line
                group = []
            group.append(index)
        kept = [lines[i] for i in sorted(lines)]
        return [one for one in kept if one.score >= self.least_score and one.text.strip()]

    def _boxes(self, picture: Any) -> list[Box]:
        assert self._loaded[0] is not None
        processor, model = self._loaded[0]
        inputs = processor(images=picture, return_tensors="pt").to(self.device)
        size = torch.tensor([[picture.height, picture.width]])
        outputs = model(pixel_values=inputs["pixel_values"])
        (found,) = processor.post_process_object_detection(outputs, target_sizes=size)
        corners = torch.as_tensor(found["boxes"]).float().reshape(-1, *_shape(found["boxes"]))
        page = Box(0, 0, *picture.size)
        boxes = []
        for one in corners.tolist():
            points = one if isinstance(one[0], list) else [one[:2], one[2:]]
            across, down = zip(*points, strict=True)
            boxes.append(Box(min(across), min(down), max(across), max(down)).inside(page))
        return [box for box in boxes if box.width >= 2 and box.height >= 2]

    def _read(self, picture: Any, boxes: Sequence[Box], group: Sequence[int]) -> list[Line]:
        assert self._loaded[1] is not None
        processor, model = self._loaded[1]
        crops = [picture.crop(tuple(map(int, boxes[i]))) for i in group]
        inputs = processor(images=crops, return_tensors="pt").to(self.device)
        found = processor.post_process_text_recognition(model(pixel_values=inputs["pixel_values"]))
        return [
            Line(one["text"], boxes[i], 0.0 if one["score"] != one["score"] else one["score"])
            for i, one in zip(group, found, strict=True)
        ]

    @torch.inference_mode()
    def layout(self, image: Any) -> list[tuple[Box, Kind]]:
        """Boxes and kinds in the model's reading order; none without a layout model."""
        self.load()
        if self._loaded[2] is None:
            return []
        processor, model = self._loaded[2]
        picture = image.convert("RGB")
        inputs = processor(images=picture, return_tensors="pt").to(self.device)
        (found,) = processor.post_process_object_detection(
            model(**inputs), threshold=self.certain, target_sizes=[(picture.height, picture.width)]
        )
        names = model.config.id2label
        return [
            (Box(*box), kind(names[label]))
            for box, label in zip(found["boxes"].tolist(), found["labels"].tolist(), strict=True)
        ]

    def __call__(self, image: Any) -> list[Region]:
        """Regions in the layout's reading order, what it left out behind them."""
        lines = self.lines(image)
        layout = covering(lines, self.layout(image), self.covered)
        return regions_from(lines, layout, ordered=bool(layout))


def _alike(first: Box, second: Box) -> bool:
    return second.width / second.height <= ALIKE * first.width / first.height


def _shape(boxes: Any) -> tuple[int, ...]:
    """Of one box: four corners, or four edges."""
    return (4, 2) if boxes.ndim == 3 else (4,)
