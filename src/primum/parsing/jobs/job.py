"""Pages in, Markdown and JSON out: resumable, one poisoned page never stops the rest."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.files import atomic_write
from primum.jobs.index import Index
from primum.parsing.decoding.decoder import Decoded, Page
from primum.parsing.jobs.index import Entry, Status
from primum.parsing.jobs.inputs import PageInput, is_blank
from primum.parsing.reader import PageReader
from primum.parsing.regions import Region

LOOP = 5  # repetitions at the end that count as a loop
PERIOD = 200  # tokens of what is repeated, at most


@dataclass
class Job:
    """Reads pages into a folder.

    Args:
        reader: The model and how it decodes; it must have a decoder.
        folder: Of the output.
        drafts: `none`, `text` for a PDF's own text, `ocr`, or `auto`: text where there is some.
        max_new_tokens: Of a page.
        dpi: Of PDF pages.
        timeout: Seconds that decoding a page may take; what was read by then is kept.
        shard: (number, count): every `count`-th page, from `number` on.
    """

    reader: PageReader
    folder: Path
    drafts: str = "auto"
    max_new_tokens: int = 8192
    dpi: int = 144
    timeout: float | None = None
    shard: tuple[int, int] = (0, 1)
    settings: str = field(init=False)

    def __post_init__(self) -> None:
        told = [
            self.reader.identity(), self.drafts, self.max_new_tokens, self.dpi, self.timeout,
        ]  # fmt: skip
        self.settings = json.dumps(told, sort_keys=True, default=str)

    def run(
        self,
        pages: Iterable[PageInput],
        again: Collection[Status] = (),
        tell: Callable[[PageInput, Entry], None] | None = None,
    ) -> list[Entry]:
        """Read what is not done yet; entries of all pages asked for, in their order.

        Args:
            pages: The input; of a shard, all of it.
            again: Statuses of pages that are read once more.
            tell: Called after each page that was read.
        """
        number, count = self.shard
        own = [page for place, page in enumerate(pages) if place % count == number]
        index = Index(self.folder, Entry, self.shard)
        try:
            done = index.done(again)
            result = []
            for page in own:
                key = self.key(page)
                entry = done.get(key)
                if entry is None:
                    entry = self.page(page, key)
                    index.append(entry)
                    if tell is not None:
                        tell(page, entry)
                result.append(entry)
            return result
        finally:
            index.close()

    def key(self, page: PageInput) -> str:
        """Identity of a page with all that its output depends on."""
        try:
            content = page.key
        except OSError as error:
            content = f"{page.file} {error}"
        return hashlib.sha256(f"{content} {self.settings}".encode()).hexdigest()

    def page(self, page: PageInput, key: str) -> Entry:
        """Read one page and write its output; what goes wrong is in the entry."""
        began = time.perf_counter()
        try:
            image = page.image(self.dpi)
            if is_blank(image):
                self.write(page, image.size, "", [])
                return Entry(key, page.name, "blank", seconds=time.perf_counter() - began)
            regions, trouble = self.draft(page, image)
            found = self.decoded(image, regions)
            self.write(page, image.size, found.text.strip(), regions)
        except UserError as error:
            return Entry(key, page.name, "failed", reason=str(error.problem))
        except Exception as error:  # one page must never stop a job of many
            reason = f"{type(error).__name__}: {error}"
            return Entry(key, page.name, "failed", reason=reason[:500])
        status: Status = "fallback" if trouble else "ok"
        if not found.finished:
            late = len(found.tokens) < self.max_new_tokens
            status = "looped" if loops(found.tokens) else "timeout" if late else "truncated"
            trouble = trouble or f"cut at {len(found.tokens)} tokens"
        seconds = time.perf_counter() - began
        return Entry(
            key,
            page.name,
            status,
            tokens=len(found.tokens),
            forwards=len(found.trace.steps),
            seconds=round(seconds, 3),
            reason=trouble,
        )

    def draft(self, page: PageInput, image: Any) -> tuple[list[Region], str]:
        """Regions that may stand on the page, and what went wrong while drafting."""
        try:
            if self.drafts in ("text", "auto") and (found := page.text_layer(self.dpi)):
                return found, ""
            if self.drafts in ("ocr", "auto") and self.reader.drafter is not None:
                return self.reader.drafter(image), ""
        except Exception as error:  # drafts are a help, not a need
            return [], f"no drafts: {type(error).__name__}: {error}"[:500]
        return [], ""

    def decoded(self, image: Any, regions: list[Region]) -> Decoded:
        """The model's output for a page."""
        target = self.reader.target()
        assert self.reader.decoder is not None
        self.reader.decoder.max_new_tokens = self.max_new_tokens
        self.reader.network.generation_config.max_time = self.timeout
        (found,) = self.reader.decoder(target, [Page(image, regions)])
        return found

    def write(
        self, page: PageInput, size: tuple[int, int], text: str, regions: list[Region]
    ) -> None:
        """A page's Markdown, and its JSON with the boxes that drafters found."""
        target = self.folder / page.name
        told = {
            "file": page.file.name,
            "page": None if page.number is None else page.number + 1,
            "width": size[0],
            "height": size[1],
            "markdown": text,
            "drafted_regions": [
                {"kind": one.kind, "box": [round(edge, 1) for edge in one.box]} for one in regions
            ],
        }
        atomic_write(target.with_name(f"{target.name}.md"), text + "\n")
        atomic_write(
            target.with_name(f"{target.name}.json"),
            json.dumps(told, indent=1, ensure_ascii=False) + "\n",
        )


def loops(tokens: list[int]) -> bool:
    """Whether an output ends in one passage again and again.

    >>> loops([1, 2, 3] + [7, 8] * 6), loops([1, 2, 3, 4, 5, 6, 7, 8])
    (True, False)
    """
    for period in range(1, min(PERIOD, len(tokens) // LOOP) + 1):
        tail = tokens[-period:]
        if tokens[-period * LOOP :] == tail * LOOP:
            return True
    return False
