"""Segmentations already made: COCO results, folders of label maps, COCO panoptic files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primum.benchmarks.cases import Case
from primum.benchmarks.segments import Segments
from primum.benchmarks.subjects import Settings
from primum.errors import UserError

MAPS = (".png", ".npy")
HOW = (
    "give a COCO results .json, a folder of label maps (.png, .npy) named like the pictures, or a "
    "COCO panoptic .json with its folder of .png beside it"
)


def read_segments(paths: Sequence[Path]) -> Found:
    """Predictions of any known form.

    - a COCO results file: a list of {image_id, segmentation | bbox, score, category_id}
    - a COCO data set of pseudo-masks: {images, annotations}, as `primum segment` writes it
    - a COCO panoptic file {annotations: [{image_id, file_name, segments_info}]} beside a folder of
      the same name without its ending, which holds the PNG files
    - a folder of label maps, one .png or .npy a picture: (height, width), or in a .npy a sweep of
      partitions (scales, height, width)

    Raises:
        UserError: A file is missing or damaged.
    """
    answers: dict[str, Any] = {}
    for path in paths:
        if path.is_dir():
            found: dict[str, Any] = label_maps(path)
        elif path.suffix == ".json":
            found = coco_file(path)
        else:
            raise UserError("These are no predictions of pictures", file=path, remedy=HOW)
        for key, value in found.items():
            if isinstance(value, list):
                answers.setdefault(key, []).extend(value)
            elif key in answers:
                raise UserError(f"There are two predictions for {key!r}", file=path)
            else:
                answers[key] = value
    return Found(answers)


class Found:
    """Predictions by the picture's id, file name or stem.

    A picture without one counts as answered with nothing; none at all for any picture is a mistake.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers

    def find(self, case: Case) -> Any:
        """The prediction of a case, or None."""
        name = Path(case.prompt)
        for key in (case.id, name.name, name.stem, name.as_posix()):
            if key in self.answers:
                return self.answers[key]
        return None

    def check(self, cases: Sequence[Case]) -> None:
        """Refuse predictions that belong to other pictures.

        Raises:
            UserError: Not one case has a prediction.
        """
        if all(self.find(case) is None for case in cases):
            raise UserError(
                f"Not one of the {len(cases)} pictures has a prediction; the first picture is "
                f"{cases[0].id!r} ({cases[0].prompt}), the first prediction "
                f"{next(iter(self.answers), None)!r}",
                remedy=HOW,
            )

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Any]:
        """Look the predictions up; label maps are read only now."""
        return [ready(self.find(case)) for case in cases]


def ready(found: Any) -> Any:
    """A prediction as an answer."""
    if found is None:
        return Segments()
    if isinstance(found, list):
        return found
    if isinstance(found, Path):
        labels = read_map(found)
        if labels.ndim == 3:
            return Segments(partitions=labels)
        return Segments(partitions=labels[None] if labels.min() >= 0 else None, labels=labels)
    path, categories = found
    return Segments(segments=read_panoptic_png(path), categories=categories)


def label_maps(folder: Path) -> dict[str, Path]:
    """Label maps of a folder by file stem.

    Raises:
        UserError: There are none.
    """
    found = {file.stem: file for file in sorted(folder.rglob("*")) if file.suffix in MAPS}
    if not found:
        raise UserError("This folder holds no label maps", file=folder, remedy=HOW)
    return found


def read_map(path: Path) -> np.ndarray:
    """Integer labels of a .npy or single-channel .png file, (height, width) or a stack of them.

    Raises:
        UserError: It cannot be read, or holds no integers.
    """
    try:
        if path.suffix == ".npy":
            labels = np.load(path, allow_pickle=False)
        else:
            from PIL import Image

            with Image.open(path) as image:
                labels = np.array(image)
    except (OSError, ValueError) as error:
        raise UserError(f"This label map cannot be read: {error}", file=path) from None
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim not in (2, 3):
        raise UserError(
            f"A label map is (height, width) of integers, not {labels.dtype} {labels.shape}",
            file=path,
            remedy="save labels as an 8- or 16-bit single-channel PNG, or as .npy",
        )
    if path.suffix == ".png" and labels.ndim == 3:
        raise UserError("This PNG has colours; a label map has one channel", file=path, remedy=HOW)
    return labels.astype(np.int64)


def read_panoptic_png(path: Path) -> np.ndarray:
    """(height, width) segment ids of a COCO panoptic PNG: red + 256 green + 65536 blue.

    Raises:
        UserError: It is not there or cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            colours = np.array(image.convert("RGB")).astype(np.int64)
    except OSError as error:
        raise UserError(f"This panoptic map cannot be read: {error}", file=path) from None
    return colours @ np.array([1, 256, 65536])


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        UserError: It is not there, or damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError("There is no such file", file=path) from None
    except ValueError as error:
        raise UserError(f"This file is damaged: {error}", file=path) from None


def coco_file(path: Path) -> dict[str, Any]:
    """Masks, or panoptic maps, by image id, and by file name where the file tells it.

    Raises:
        UserError: It is no such file, or a row lacks a field.
    """
    content = read_json(path)
    rows = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise UserError("This file holds no list of predictions", file=path, remedy=HOW)
    if rows and isinstance(rows[0], dict) and "segments_info" in rows[0]:
        return {str(row["image_id"]): panoptic_row(row, path.with_suffix("")) for row in rows}
    images = content.get("images", []) if isinstance(content, dict) else []
    names = {image["id"]: image["file_name"] for image in images}
    found: dict[str, Any] = {str(name): [] for name in names.values()}
    for number, row in enumerate(rows, 1):
        if (
            not isinstance(row, dict)
            or "image_id" not in row
            or not ({"segmentation", "bbox"} & set(row))
        ):
            raise UserError(
                "A prediction has `image_id` and `segmentation` or `bbox`",
                file=path,
                row=number,
                remedy=HOW,
            )
        key = str(names.get(row["image_id"], row["image_id"]))
        found.setdefault(key, []).append(row)
    return found


def panoptic_row(row: Mapping[str, Any], folder: Path) -> tuple[Path, dict[int, int]]:
    """The map of a panoptic annotation, and the category of each of its segments."""
    return (
        folder / row["file_name"],
        {segment["id"]: segment["category_id"] for segment in row["segments_info"]},
    )
