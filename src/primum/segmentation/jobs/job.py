"""Pictures in, masks out: resumable, one bad picture never stops the rest."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from primum.errors import UserError
from primum.files import atomic_write
from primum.jobs.index import Index
from primum.jobs.shards import Shard
from primum.segmentation.drawing import strip
from primum.segmentation.gallery import card
from primum.segmentation.jobs.index import Entry, Status
from primum.segmentation.jobs.inputs import Picture
from primum.segmentation.nested import Nested, annotation
from primum.segmentation.pictures import read_picture
from primum.segmentation.uniap import UniAP

DEEPEST = 2**16 - 1  # what a 16-bit label map can say


@dataclass
class Job:
    """Segments pictures into a folder.

    For a picture `a/b.jpg` it writes `masks/a/b.jpg.json` (COCO annotations), label maps
    `labels/level-1/a/b.jpg.png` ... (16 bits, one a level), `overlays/a/b.jpg.jpg` and the card
    `cards/a/b.jpg.json` that the gallery is made of.

    Args:
        uniap: What segments.
        folder: Of the output.
        shard: (number, count): every `count`-th picture, from `number` on.
        maps: Write label maps.
    """

    uniap: UniAP
    folder: Path
    shard: Shard = (0, 1)
    maps: bool = True
    settings: str = field(init=False)

    def __post_init__(self) -> None:
        told = [self.uniap.identity(), self.maps]
        self.settings = json.dumps(told, sort_keys=True, default=str)

    def run(
        self,
        pictures: Sequence[Picture],
        again: Collection[Status] = (),
        tell: Callable[[Entry], None] | None = None,
    ) -> list[Entry]:
        """Segment what is not done yet; entries of this shard's pictures, in their order.

        Args:
            pictures: The input; of a shard, all of it.
            again: Statuses of pictures that are segmented once more.
            tell: Called with each entry, of pictures that were done before at once.
        """
        number, count = self.shard
        index = Index(self.folder, Entry, self.shard)
        try:
            done = index.done(again)
            result = []
            for picture in pictures[number::count]:
                key = self.key(picture)
                entry = done.get(key)
                if entry is None:
                    entry = self.picture(picture, key)
                    index.append(entry)
                if tell is not None:
                    tell(entry)
                result.append(entry)
            return result
        finally:
            index.close()

    def key(self, picture: Picture) -> str:
        """Identity of a picture with all that its masks depend on."""
        try:
            content = picture.key
        except OSError as error:
            content = f"{picture.name} {error}"
        return hashlib.sha256(f"{content} {self.settings}".encode(errors="replace")).hexdigest()

    def picture(self, picture: Picture, key: str) -> Entry:
        """Segment one picture and write its output; what goes wrong is in the entry."""
        began = time.perf_counter()
        try:
            image = read_picture(picture.file)
            nested = self.uniap.nested(image)
            self.write(picture, image, nested)
        except UserError as error:
            problem = " ".join(part for part in (error.problem, error.remedy) if part)
            if "disk is full" in problem:
                raise
            return Entry(key, picture.name, "failed", reason=problem)
        except (MemoryError, RuntimeError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"[:500]
            return Entry(key, picture.name, "failed", reason=reason)
        status: Status = "ok"
        reason = ""
        if max(nested.counts) == 1:
            status = "uniform"
            reason = "one region at every level; `primum segment tune` finds other thresholds"
        elif nested.left_out:
            status = "crowded"
            reason = f"{nested.left_out} small regions were left out; raise --min-area"
        return Entry(
            key, picture.name, status, len(nested.regions), tuple(nested.counts),
            round(time.perf_counter() - began, 3), reason,
        )  # fmt: skip

    def write(self, picture: Picture, image: np.ndarray, nested: Nested) -> None:
        """Everything that is kept of a picture; the index names it only then."""
        height, width = image.shape[:2]
        found = sorted(
            (annotation(row, region, mask) for row, region, mask in nested.each()),
            key=lambda one: one["id"],
        )
        told = {"file_name": picture.name, "height": height, "width": width, "annotations": found}
        if self.maps:
            for level in range(nested.levels):
                place = self.folder / "labels" / f"level-{level + 1}" / f"{picture.name}.png"
                atomic_write(place, label_map(nested.labels(level)))
        atomic_write(self.folder / "overlays" / f"{picture.name}.jpg", strip(image, nested))
        atomic_write(
            self.folder / "cards" / f"{picture.name}.json",
            json.dumps(card(picture.name, image, nested), ensure_ascii=True),
        )
        atomic_write(self.folder / "masks" / f"{picture.name}.json", json.dumps(told) + "\n")


def label_map(labels: np.ndarray) -> bytes:
    """A label map as a 16-bit PNG.

    Raises:
        UserError: There are more labels than 16 bits can say.
    """
    from PIL import Image

    if labels.max(initial=0) > DEEPEST:
        raise UserError(
            f"{int(labels.max()) + 1} regions do not fit into a 16-bit label map",
            remedy="--no-maps, or a lower first threshold",
        )
    packed = io.BytesIO()
    Image.fromarray(labels.astype(np.uint16)).save(packed, "PNG", compress_level=2)
    return packed.getvalue()
