"""SA-1B as it is distributed: images inside tar files, read in place."""

import json
import tarfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from primum.errors import UserError
from primum.files import atomic_write
from primum.segmentation.data.images import ENDINGS, read_image
from primum.segmentation.data.sources import Choice

INDEX = ".primum-index.json"


class TarShards:
    """Images in the `.tar` files of a folder (`sa_000000.tar` ...), without unpacking them.

    The places of the images are written beside the shards once (or kept in memory where the folder
    cannot be written), and a shard that changed is indexed anew. SA-1B's annotations, which lie in
    the same archives, are never opened.

    Args:
        root: The folder.
        subset: Keeps some of the images: names are those inside the archives.

    Raises:
        UserError: There is no shard, or one is no tar file.
    """

    def __init__(self, root: str | Path, subset: Choice | None = None) -> None:
        self.root, self.subset = Path(root), subset
        self.shards = sorted(self.root.glob("*.tar"))
        if not self.shards:
            raise UserError("There are no .tar shards here", file=root, remedy="ROOT/sa_000000.tar")

    @cached_property
    def members(self) -> list[tuple[str, int, int, int]]:
        """Name, shard, offset and bytes of each image."""
        known, cache = {}, self.root / INDEX
        if cache.is_file():
            known = json.loads(cache.read_text())
        places: dict[str, Any] = {}
        for shard in self.shards:
            state = [shard.stat().st_size, shard.stat().st_mtime_ns]
            entry = known.get(shard.name)
            places[shard.name] = entry if entry and entry[0] == state else [state, scan(shard)]
        if places != known:
            with suppress(OSError):  # a read-only folder is scanned again next time
                atomic_write(cache, json.dumps(places))
        every = [
            (name, number, offset, size)
            for number, shard in enumerate(self.shards)
            for name, offset, size in places[shard.name][1]
        ]
        if self.subset is not None:
            return [every[index] for index in self.subset.of([row[0] for row in every])]
        return every

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        return self.members[index][0]

    def read(self, index: int) -> Tensor:
        name, shard, offset, size = self.members[index]
        with self.shards[shard].open("rb") as stream:
            stream.seek(offset)
            return read_image(stream.read(size), f"{self.shards[shard]}:{name}")


def scan(shard: Path) -> list[list]:
    """Name, offset and size of each image in an uncompressed tar file."""
    try:
        with tarfile.open(shard, "r:") as archive:
            return [
                [member.name.removeprefix("./"), member.offset_data, member.size]
                for member in archive
                if member.isfile() and member.name.lower().endswith(ENDINGS)
            ]
    except (tarfile.TarError, OSError) as error:
        raise UserError(
            f"This shard cannot be read ({error})", file=shard, remedy="download it once more"
        ) from error
