"""What a benchmark asks: cases with an identity, so that each can be matched and counted once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.files import sha256

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One item of a benchmark.

    Attributes:
        id: Unique within the benchmark, and stable: results are matched by it.
        messages: What the candidate is shown, as chat messages. `content` is text, or a list of
            parts as chat templates take them (`{"type": "image", ...}`).
        reference: What a good answer is, in whatever form the benchmark scores against.
        tags: What scores are broken down by (`{"family": "dosing"}`).
        files: Where what is shown or compared lies on this machine (`{"image": Path(...)}`). No
            part of the identity: messages and reference carry the files' SHA-256.
    """

    id: str
    messages: tuple[Message, ...]
    reference: Any = None
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The text of the last message: what judges and readers see as the question."""
        return text_of(self.messages[-1]) if self.messages else ""

    @cached_property
    def prompt_sha256(self) -> str:
        """Identity of what is shown to the candidate."""
        return sha256_of([dict(message) for message in self.messages])

    @cached_property
    def sha256(self) -> str:
        """Identity of the whole case; any change of it makes other results."""
        return sha256_of([self.id, self.prompt_sha256, self.reference, dict(self.tags)])


def text_of(message: Message) -> str:
    """The text of a message, without its images."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part.get("type") == "text")


def sha256_of(content: Any) -> str:
    """SHA-256 of anything JSON can hold, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files below a folder."""
    if path.is_file():
        return sha256(path)
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of([[file.relative_to(path).as_posix(), sha256(file)] for file in inside])


def check_cases(cases: Sequence[Case], benchmark: str) -> None:
    """Refuse a set of cases that could not be scored.

    Raises:
        UserError: There are none, or two share an id.
    """
    if not cases:
        raise UserError(
            f"The benchmark {benchmark} has no cases",
            remedy="check its data files and limits (benchmark.limit, benchmark.split)",
        )
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise UserError(
                f"Two cases of the benchmark {benchmark} have the id {case.id!r}",
                remedy="give each case an id of its own, or drop the repeated row",
            )
        seen.add(case.id)
