"""Tiny data sets of pictures in the formats that benchmarks read, all made here."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat


def regions(seed: int, height: int = 24, width: int = 31) -> np.ndarray:
    """(height, width) labels 0..3 of four rectangles."""
    draw = np.random.default_rng(seed)
    y, x = draw.integers(6, height - 6), draw.integers(6, width - 6)
    labels = np.zeros((height, width), np.int64)
    labels[y:], labels[:, x:] = 2, labels[:, x:] + 1
    labels[y:, x:] = 3
    return labels


def code(mask: np.ndarray) -> dict:  # type: ignore[type-arg]
    made = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": made["size"], "counts": made["counts"].decode()}


def photograph(labels: np.ndarray, path: Path) -> None:
    """A picture whose colours are its regions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [210, 210, 60]], np.uint8)
    Image.fromarray(palette[labels]).save(path)


def coco(folder: Path, pictures: int = 4) -> Path:
    """A COCO file and its pictures; the last one has no annotation."""
    images, annotations = [], []
    for number in range(1, pictures + 1):
        labels = regions(number)
        name = f"{number:03d}.png"
        photograph(labels, folder / "images" / name)
        images.append({"id": number, "file_name": name, "height": 24, "width": 31})
        for label in range(1, 4) if number < pictures else ():
            mask = labels == label
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label,
                "segmentation": code(mask), "area": int(mask.sum()), "iscrowd": 0,
                "bbox": coco_mask.toBbox(code(mask)).tolist(),
            })  # fmt: skip
    file = folder / "truth.json"
    categories = [{"id": label, "name": f"c{label}"} for label in range(1, 4)]
    file.write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}
    ))  # fmt: skip
    return file


def as_results(truth: Path, target: Path, pictures: tuple[int, ...] = (1, 2, 3)) -> Path:
    """The annotations of some pictures as a COCO results file."""
    rows = json.loads(truth.read_text())["annotations"]
    keep = ("image_id", "category_id", "segmentation", "bbox")
    target.write_text(json.dumps([
        {key: row[key] for key in keep} | {"score": 0.9}
        for row in rows if row["image_id"] in pictures
    ]))  # fmt: skip
    return target


def panoptic(folder: Path, pictures: int = 3, name: str = "panoptic") -> Path:
    """A COCO panoptic file and its maps; labels 3 and 4 are stuff, and a corner is void."""
    annotations, images = [], []
    for number in range(1, pictures + 1):
        labels = regions(number) + 1
        labels[:3, :3] = 0
        ids = labels * 300  # more than one channel
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours).save(folder / name / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 24, "width": 31})
        annotations.append({
            "image_id": number, "file_name": f"{number}.png",
            "segments_info": [
                {"id": label * 300, "category_id": label, "iscrowd": 0}
                for label in range(1, 5)
            ],
        })  # fmt: skip
    file = folder / f"{name}.json"
    categories = [{"id": n, "name": f"c{n}", "isthing": int(n < 3)} for n in (1, 2, 3, 4)]
    file.write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}
    ))  # fmt: skip
    return file


def bsds(folder: Path, pictures: int = 3, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """Pictures with two annotators each, one of whom sees less."""
    for offset, split in enumerate(splits):
        for number in range(pictures):
            labels = regions(10 * offset + number)
            photograph(labels, folder / "images" / split / f"{number}.jpg")
            cells = np.empty((1, 2), object)
            for place, one in enumerate((labels, labels // 2)):
                cells[0, place] = {"Segmentation": (one + 1).astype(np.uint16)}
            target = folder / "groundTruth" / split
            target.mkdir(parents=True, exist_ok=True)
            savemat(target / f"{number}.mat", {"groundTruth": cells})
    return folder


def label_maps(folder: Path, pictures: int = 4, shift: int = 0) -> Path:
    """Label maps 0..3, and 255 in a corner, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        labels = (regions(number) + shift) % 4
        labels[:2, :2] = 255
        Image.fromarray(labels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder
