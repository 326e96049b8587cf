"""What came of a page: a line of the job's index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "blank", "truncated", "looped", "timeout", "fallback", "failed"]


@dataclass(frozen=True)
class Entry:
    """What came of a page.

    Attributes:
        key: Content of the page, weights and settings: the same key is never read twice.
        name: Of the page, as its output files are called.
        status: `ok`; `blank`: nothing is printed there; `truncated`: cut at the length cap;
            `looped`: cut while repeating itself; `timeout`: cut by the clock; `fallback`: drafting
            failed and the page was read plainly; `failed`: nothing was read.
        tokens: Of the output.
        forwards: Of the model.
        accepted: Tokens that had been drafted.
        seconds: For drafting and decoding.
        reason: Why it is not `ok`.
    """

    key: str
    name: str
    status: Status
    tokens: int = 0
    forwards: int = 0
    accepted: int = 0
    seconds: float = 0.0
    reason: str = ""
