"""Pages in, Markdown and JSON out: resumable, one poisoned page never stops the rest."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.jobs.index import Index
from primum.parsing.drafters.ahead import Drafted, Make, ahead
from primum.parsing.drafters.saved import find, read
from primum.parsing.jobs.index import Entry, Status
from primum.parsing.jobs.inputs import PageInput, is_blank
from primum.parsing.jobs.output import Output
from primum.parsing.jobs.reading import Limits, Reading, Reads, Stop
from primum.parsing.regions import Region

CHUNK = 64  # pages looked through for text before OCR starts on them
LOOKED = ("ocr", "auto", "native")  # kinds of drafts for which somebody looks at the page
Tell = Callable[[PageInput, Entry], None]


@dataclass
class Job:
    """Reads pages into a folder.

    Args:
        reads: The model, and how it decodes.
        output: The folder, and what goes into it.
        drafts: `none`, `text` for a PDF's own text, `ocr` or `native` for what the drafter sees, or
            `auto`: text where there is some.
        drafter: Makes the drafter that looks at pages; None for none.
        saved: Output folder of another program (see `drafters.saved`): its drafts come first.
        workers: Processes in which OCR runs ahead of the model; 0 runs it in between.
        patience: Seconds that drafting a page may take in a worker.
        limits: Of a page.
        dpi: Of PDF pages.
        together: Pages read at once, where a server reads them.
        shard: (number, count): every `count`-th page, from `number` on.
    """

    reads: Reads
    output: Output
    drafts: str = "auto"
    drafter: Make | None = None
    saved: Path | None = None
    workers: int = 0
    patience: float = 120.0
    limits: Limits = field(default_factory=Limits)
    dpi: int = 144
    together: int = 1
    shard: tuple[int, int] = (0, 1)
    settings: str = field(init=False)

    def __post_init__(self) -> None:
        told = [
            self.reads.identity(), self.drafts, repr(self.limits), self.dpi,
            self.output.headers, self.output.figures, *([str(self.saved)] if self.saved else []),
        ]  # fmt: skip
        self.settings = json.dumps(told, sort_keys=True, default=str)
        self.made: Any = None

    def run(
        self,
        pages: Iterable[PageInput],
        again: Collection[Status] = (),
        tell: Tell | None = None,
        kept: Callable[[int], None] | None = None,
    ) -> list[Entry]:
        """Read what is not done yet; entries of all pages asked for, in their order.

        Args:
            pages: The input; of a shard, all of it.
            again: Statuses of pages that are read once more.
            tell: Called after each page that was read.
            kept: Called once, with the number of pages that an earlier run has read.
        """
        number, count = self.shard
        own = [page for place, page in enumerate(pages) if place % count == number]
        index = Index(self.output.folder, Entry, self.shard)
        try:
            done = index.done(again)
            keys = [self.key(page) for page in own]
            if kept is not None:
                kept(sum(key in done for key in keys))
            drafted = self.drafted(
                page for page, key in zip(own, keys, strict=True) if key not in done
            )
            found = {}
            todo = ((page, key) for page, key in zip(own, keys, strict=True) if key not in done)
            for page, entry in self.entries(todo, drafted):
                index.append(entry)
                found[entry.key] = entry
                if tell is not None:
                    tell(page, entry)
            return [found.get(key) or done[key] for key in keys]
        finally:
            index.close()

    def entries(
        self, pages: Iterable[tuple[PageInput, str]], drafted: Iterator[Drafted]
    ) -> Iterator[tuple[PageInput, Entry]]:
        """Read pages with their keys, `together` at once; entries in the order of the pages."""
        pool = ThreadPoolExecutor(self.together)
        waiting: deque[tuple[PageInput, Future[Entry]]] = deque()
        try:
            for page, key in pages:
                drafts = next(drafted, Drafted(()))
                image = self.image(page)  # here: PDFs are read by one thread alone
                if self.together == 1:
                    yield page, self.page(page, key, image, drafts)
                    continue
                waiting.append((page, pool.submit(self.page, page, key, image, drafts)))
                if len(waiting) == self.together:
                    page, one = waiting.popleft()
                    yield page, one.result()
            for page, one in waiting:
                yield page, one.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def image(self, page: PageInput) -> Any:
        """The picture of a page, or what is wrong with it."""
        try:
            return page.image(self.dpi)
        except Exception as error:  # one page must never stop a job of many
            return error

    def key(self, page: PageInput) -> str:
        """Identity of a page with all that its output depends on."""
        try:
            content = page.key
        except OSError as error:
            content = f"{page.file} {error}"
        return hashlib.sha256(f"{page.name} {content} {self.settings}".encode()).hexdigest()

    def page(self, page: PageInput, key: str, image: Any, drafts: Drafted) -> Entry:
        """Read one page and write its output; what goes wrong is in the entry."""
        began = time.perf_counter()
        try:
            if isinstance(image, Exception):
                raise image
            if is_blank(image):
                self.output.write(page, image, "", [])
                return Entry(key, page.name, "blank", seconds=time.perf_counter() - began)
            regions = list(drafts.regions)
            found = self.reads.read(image, regions, self.limits, drafts.seconds)
            self.output.write(page, image, found.text, found.regions or regions, found.decoding)
        except Stop:
            raise
        except UserError as error:
            return Entry(key, page.name, "failed", reason=str(error.problem))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return Entry(key, page.name, "failed", reason=reason[:500])
        spent = drafts.seconds + time.perf_counter() - began
        return replace(entry_of(found, drafts), key=key, name=page.name, seconds=round(spent, 3))

    def drafted(self, pages: Iterable[PageInput]) -> Iterator[Drafted]:
        """Drafts of pages in their order; OCR runs ahead where there are workers."""
        wanted = iter(pages)
        while part := list(islice(wanted, CHUNK)):
            scans = set()
            if self.workers and self.drafter is not None and self.drafts in LOOKED:
                known = [self.kept(page) is not None or self.layer(page) for page in part]
                scans = {place for place, found in enumerate(known) if not found}
            if not scans:
                yield from map(self.draft, part)
                continue
            assert self.drafter is not None
            images = [partial(part[place].image, self.dpi) for place in sorted(scans)]
            ocr = ahead(self.drafter, images, self.workers, self.patience)
            for place, page in enumerate(part):
                yield next(ocr) if place in scans else self.draft(page)

    def layer(self, page: PageInput) -> list[Any]:
        """What a PDF says of itself, where that is asked for."""
        try:
            return page.text_layer(self.dpi) if self.drafts in ("text", "auto") else []
        except Exception:  # whoever reads the page says what is wrong
            return []

    def kept(self, page: PageInput) -> Path | None:
        """The file in which another program has kept a page."""
        return None if self.saved is None else find(self.saved, page.file, page.number or 0)

    def draft(self, page: PageInput) -> Drafted:
        """Regions that may stand on the page; drafts are a help, not a need."""
        began = time.perf_counter()
        kept = self.kept(page)
        try:
            found: list[Region] = []
            if kept is not None:
                size = page.image(self.dpi).size
                found = read(kept, page.number or 0, size, page.file.name)
            found = found or self.layer(page)
            if not found and self.drafts in LOOKED and self.drafter is not None:
                image = page.image(self.dpi)
                self.made = self.made or self.drafter()
                found = [] if is_blank(image) else self.made(image)
        except UserError as error:  # of the page, which is told when it is read; or of the draft
            problem = f"{error.problem} ({kept})" if kept is not None else ""
            return Drafted((), time.perf_counter() - began, problem)
        except Exception as error:
            return Drafted((), time.perf_counter() - began, f"{type(error).__name__}: {error}")
        return Drafted(tuple(found), time.perf_counter() - began)


def entry_of(found: Reading, drafts: Drafted) -> Entry:
    """What came of a page, without its key and name."""
    status: Status = "fallback" if drafts.problem else "ok"
    reason = f"no drafts: {drafts.problem}"[:500] if drafts.problem else ""
    if found.cut:
        status, reason = found.cut, reason or f"cut at {found.tokens} tokens"
    return Entry(
        "",
        "",
        status,
        tokens=found.tokens,
        forwards=found.forwards,
        accepted=found.accepted,
        reason=reason,
    )
