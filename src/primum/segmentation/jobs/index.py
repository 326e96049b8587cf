"""What came of a picture: a line of the job's index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "uniform", "crowded", "failed"]


@dataclass(frozen=True)
class Entry:
    """What came of a picture.

    Attributes:
        key: Content of the picture, its name, weights and settings: the same key is never
            segmented twice.
        name: Of the picture, as its output files are called.
        status: `ok`; `uniform`: one region at every level; `crowded`: more regions than the table
            holds, the smallest were left out; `failed`: it could not be read or segmented.
        regions: Masks written.
        counts: Regions at each level.
        seconds: All in all.
        reason: Why it is not `ok`.
    """

    key: str
    name: str
    status: Status
    regions: int = 0
    counts: tuple[int, ...] = ()
    seconds: float = 0.0
    reason: str = ""
