"""True masks as COCO, UVO and LVIS files, or SA-1B's folder of one file a picture, hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from primum.benchmarks.cases import Case
from primum.benchmarks.images import existing, picture, spread
from primum.benchmarks.predicted import read_json
from primum.benchmarks.segments import run_length
from primum.errors import UserError
from primum.extras import require

T = TypeVar("T")


class Choice(Protocol):
    """A rule that chooses among names, such as `primum.segmentation.data.subsets.Subset`."""

    def of(self, names: Sequence[str]) -> list[int]: ...


def coco_cases(
    annotations: str | Path,
    images: str | Path | None,
    limit: int | None,
    subset: Choice | None = None,
) -> list[Case]:
    """A case a picture, pictures without any annotation included.

    Args:
        annotations: A COCO-type .json, or a folder of SA-1B's .json files.
        images: Folder of the pictures; None where predictions are at hand and none is shown.
        limit: Pictures at most, evenly spread.
        subset: Chooses among the pictures' file names first.

    Raises:
        UserError: A file is missing or damaged.
    """
    source = existing(annotations, "annotation file")
    folder = None if images is None else existing(images, "folder of pictures")
    rows: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]
    if source.is_dir():
        rows = map(sa1b_row, chosen(sa1b_files(source), sa1b_name, limit, subset))
    else:
        rows = chosen(list(coco_rows(source)), lambda row: picture_name(row[0]), limit, subset)
    cases = []
    for image, truths in rows:
        name = picture_name(image)
        file = None if folder is None else existing(folder / name, "picture")
        cases.append(
            Case(
                id=str(image["id"]),
                messages=picture(str(name), file),
                reference={"size": [image["height"], image["width"]], "annotations": truths},
                files={} if file is None else {"image": file},
            )
        )
    return cases


def chosen(
    items: Sequence[T], name: Callable[[T], str], limit: int | None, subset: Choice | None
) -> list[T]:
    """The pictures that count, by their names alone."""
    if subset is not None:
        items = [items[index] for index in subset.of([name(item) for item in items])]
    return spread(items, limit)


def picture_name(image: Mapping[str, Any]) -> str:
    """The file name of a picture; LVIS tells an address instead."""
    return str(image.get("file_name") or Path(str(image.get("coco_url", image["id"]))).name)


def coco_rows(file: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each picture of a COCO-type file with its annotations.

    Raises:
        UserError: It is no such file, or an annotation belongs to no picture.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError("This is no COCO file: it has no list `images`", file=file)
    truths: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for number, row in enumerate(content.get("annotations") or [], 1):
        if row.get("image_id") not in truths:
            raise UserError("This annotation belongs to no picture of the file", file=file,
                            row=number)  # fmt: skip
        truths[row["image_id"]].append(plain_truth(row))
    for image in content["images"]:
        yield image, truths[image["id"]]


def sa1b_files(folder: Path) -> list[Path]:
    """SA-1B's annotation files, which hold one picture each.

    Raises:
        UserError: There are none.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError("This folder holds no .json files", file=folder)
    return files


def sa1b_name(file: Path) -> str:
    """The picture that lies beside an annotation file in SA-1B's archives."""
    return f"{file.stem}.jpg"


def sa1b_row(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The picture of one of SA-1B's files, and its annotations.

    Raises:
        UserError: It is no such file.
    """
    content = read_json(file)
    try:
        image = content["image"]
        truths = [plain_truth(row) for row in content["annotations"]]
        return {"id": image["image_id"]} | image, truths
    except (TypeError, KeyError):
        raise UserError("This is no SA-1B file: {image, annotations}", file=file) from None


def plain_truth(row: Mapping[str, Any]) -> dict[str, Any]:
    """What matching needs of an annotation."""
    names = ("segmentation", "bbox", "area", "iscrowd", "category_id")
    return {name: row[name] for name in names if name in row}


def true_masks(case: Case, kind: str = "segm") -> list[dict[str, Any]]:
    """A case's annotations with run-length codes, areas and crowd flags, ready to be matched.

    Raises:
        UserError: One has no mask, or no box where boxes are asked for.
    """
    coco = require("pycocotools.mask", "segmentation")
    height, width = case.reference["size"]
    found = []
    for row in case.reference["annotations"]:
        truth = dict(row)
        if ("segmentation" if kind == "segm" else "bbox") not in row:
            raise UserError(f"A true region of picture {case.id} has no {kind}")
        if "segmentation" in row:
            truth["segmentation"] = run_length(row["segmentation"], (height, width))
        if "area" not in truth:
            truth["area"] = (
                float(coco.area(truth["segmentation"]))
                if "segmentation" in truth
                else float(truth["bbox"][2] * truth["bbox"][3])
            )
        truth["iscrowd"] = int(row.get("iscrowd", 0))
        found.append(truth)
    return found


def without_crowds(truths: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Regions that are one thing each."""
    return [truth for truth in truths if not truth["iscrowd"]]
