"""What UniAP finds in a picture: nested regions at the picture's own size, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from primum.segmentation.rle import Runs, runs

if TYPE_CHECKING:
    from primum_kernels.agglomeration import Agglomeration


@dataclass(frozen=True)
class Region:
    """One distinct mask.

    Attributes:
        level: From 0, fine to coarse: the first level at which it exists.
        label: Its value in the label map of that level.
        area: Pixels.
        box: Left, top, width and height in pixels.
        parent: Row of the smallest listed region that contains it; None if there is none.
        persistence: Levels at which it exists.
        score: Within 0..1; see `primum_kernels.regions.Regions`.
    """

    level: int
    label: int
    area: int
    box: tuple[int, int, int, int]
    parent: int | None
    persistence: int
    score: float


@dataclass(frozen=True)
class Nested:
    """Regions of one picture.

    Every level is a full partition and refines the next one, so the finest map and a table say
    everything; masks are made one at a time.

    Attributes:
        finest: (height, width) int32, the labels of the first level.
        ladder: (levels, labels) int32: the label at each level of a label of the first.
        regions: The listed ones, by level, then by label.
        left_out: Regions that found no place in UniAP's table.
    """

    finest: np.ndarray
    ladder: np.ndarray
    regions: list[Region]
    left_out: int = 0

    @classmethod
    def of(cls, found: Agglomeration, finest: np.ndarray) -> Nested:
        """From UniAP's result for one image.

        Args:
            found: A batch of one.
            finest: (height, width) labels of its first level at the picture's size.
        """
        grids = found.labels[:, 0].flatten(1).cpu().numpy()
        ladder = np.zeros((len(grids), int(grids[0].max()) + 1), np.int32)
        ladder[:, grids[0]] = grids
        areas, boxes = measured(finest, ladder)
        table = found.regions.of_image(0)
        columns = zip(
            table.level.tolist(), table.label.tolist(), table.parent.tolist(),
            table.persistence.tolist(), table.score.tolist(), strict=True,
        )  # fmt: skip
        regions = [
            Region(
                level, label, int(areas[level][label]), boxes[level][label],
                None if parent < 0 else parent, persistence, score,
            )
            for level, label, parent, persistence, score in columns
        ]  # fmt: skip
        left_out = int(found.overflow.instances.sum())
        return cls(finest.astype(np.int32), ladder, distinct(regions), left_out)

    @property
    def levels(self) -> int:
        """How many."""
        return len(self.ladder)

    @cached_property
    def counts(self) -> list[int]:
        """Regions at each level, listed or not."""
        present = np.unique(self.finest)
        return [len(np.unique(row[present])) for row in self.ladder]

    def labels(self, level: int) -> np.ndarray:
        """(height, width) int32 label map of a level."""
        return self.ladder[level][self.finest]

    def each(self) -> Iterator[tuple[int, Region, Runs]]:
        """Row, region and mask of each listed region; a level's label map is held at a time."""
        for level in range(self.levels):
            rows = {
                region.label: row
                for row, region in enumerate(self.regions)
                if region.level == level
            }
            if rows:
                for label, found in runs(self.labels(level)):
                    if label in rows:
                        yield rows[label], self.regions[rows[label]], found


def measured(
    finest: np.ndarray, ladder: np.ndarray
) -> tuple[list[np.ndarray], list[list[tuple[int, int, int, int]]]]:
    """Area, and box as left, top, width and height, of each label of each level."""
    from scipy.ndimage import find_objects

    count = ladder.shape[1]
    size = np.bincount(finest.ravel(), minlength=count)
    corners = np.tile(np.array([*finest.shape[::-1], 0, 0]), (count, 1))
    for label, place in enumerate(find_objects(finest + 1, count)):
        if place is not None:
            down, across = place
            corners[label] = [across.start, down.start, across.stop, down.stop]
    areas, boxes = [], []
    for row in ladder:
        here = int(row.max()) + 1
        areas.append(np.bincount(row, size, minlength=here).astype(np.int64))
        edges = np.tile(np.array([*finest.shape[::-1], 0, 0]), (here, 1))
        np.minimum.at(edges[:, :2], row, corners[:, :2])
        np.maximum.at(edges[:, 2:], row, corners[:, 2:])
        edges[:, 2:] -= edges[:, :2]
        boxes.append([(left, top, wide, tall) for left, top, wide, tall in edges.tolist()])
    return areas, boxes


def distinct(regions: list[Region]) -> list[Region]:
    """Without regions that have no pixel, and those that have all the pixels of their parent.

    Either happens where a picture has fewer pixels than its grid has tokens.
    """

    def gone(region: Region) -> bool:
        parent = region.parent
        return region.area == 0 or (parent is not None and regions[parent].area == region.area)

    kept = [row for row, region in enumerate(regions) if not gone(region)]
    place: dict[int | None, int] = {row: at for at, row in enumerate(kept)}

    def standing(parent: int | None) -> int | None:
        while parent is not None and parent not in place:
            parent = regions[parent].parent
        return None if parent is None else place[parent]

    return [replace(regions[row], parent=standing(regions[row].parent)) for row in kept]


def annotation(row: int, region: Region, mask: Runs) -> dict[str, Any]:
    """A region as a COCO annotation; ids count from 1 in this picture, levels from 1."""
    return {
        "id": row + 1,
        "category_id": 1,
        "segmentation": mask.compressed(),
        "area": region.area,
        "bbox": list(region.box),
        "iscrowd": 0,
        "score": round(region.score, 6),
        "level": region.level + 1,
        "parent": None if region.parent is None else region.parent + 1,
        "persistence": region.persistence,
        "label": region.label,
    }
