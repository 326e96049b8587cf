"""Subsets by rule: the same images for everybody, without a list to download."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from primum.errors import UserError


@dataclass(frozen=True)
class Subset:
    """The `size` images whose names hash lowest under `seed`.

    The choice depends on names alone: not on the order of a listing, nor on which other images are
    present beside the chosen ones. A smaller subset of the same seed lies inside a larger one.

    Attributes:
        size: Images to keep; all if there are fewer.
        seed: Another seed chooses others.
        last: The images that hash highest instead: pictures to be judged on, which no training
            subset of the same seed holds unless it leaves fewer than `size`.
    """

    size: int
    seed: int = 0
    last: bool = False

    def of(self, names: Sequence[str]) -> list[int]:
        """Indices of the chosen names, in the order of `names`.

        >>> Subset(2).of(["a.jpg", "b.jpg", "c.jpg"]) == Subset(2).of(["a.jpg", "b.jpg", "c.jpg"])
        True
        """

        def place(index: int) -> bytes:
            return hashlib.sha256(f"{self.seed}/{names[index]}".encode()).digest()

        return sorted(sorted(range(len(names)), key=place, reverse=self.last)[: self.size])


@dataclass(frozen=True)
class Listed:
    """The images that a text file names, one a line; `#` begins a comment.

    Attributes:
        file: Names as the source gives them, or their stems (`000000000139` for
            `val2017/000000000139.jpg`).
    """

    file: str | Path

    def of(self, names: Sequence[str]) -> list[int]:
        """Indices of the listed names, in the order of the file.

        Raises:
            UserError: The file is absent, or names an image that is not there.
        """
        try:
            lines = Path(self.file).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UserError(f"The list cannot be read ({error})", file=self.file) from None
        known = {Path(name).stem: index for index, name in enumerate(names)}
        known |= {name: index for index, name in enumerate(names)}
        chosen = []
        for row, line in enumerate(lines, 1):
            name = line.split("#")[0].strip()
            if not name:
                continue
            if name not in known:
                raise UserError(
                    f"There is no image `{name}`",
                    file=self.file,
                    row=row,
                    remedy="check that the list belongs to this data set and split",
                )
            chosen.append(known[name])
        return chosen
