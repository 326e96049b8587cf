"""`primum parse` on the terminal: what is asked for, a progress bar, and what came of it."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from primum.errors import UserError
from primum.jobs.shards import share
from primum.parsing.jobs import devices as several
from primum.parsing.jobs.estimate import estimates, sampled, timed, verdict
from primum.parsing.jobs.exports import export
from primum.parsing.jobs.index import Entry
from primum.parsing.jobs.inputs import DPI, PageInput, close_pdfs, find_pages, page_range
from primum.parsing.jobs.job import LOOKED, Job
from primum.parsing.jobs.output import Output
from primum.parsing.jobs.readers import chosen_model, local, served
from primum.parsing.jobs.reading import Here, Limits, Reads
from primum.parsing.jobs.report import write_report

OWN = ("--devices", "--shard", "--export")  # options that are not passed on to a device's process


def run(arguments: argparse.Namespace) -> int:
    """Read the pages; 1 if any of them failed."""
    try:
        chosen = page_range(arguments.pages) if arguments.pages else None
        shard = share(arguments.shard)
    except ValueError as error:
        raise UserError(str(error)) from None
    check(arguments)
    disable_progress_bar()  # there is one of ours
    name, note = chosen_model(arguments)
    pages = list(find_pages(arguments.input, chosen))
    folder = Path(arguments.output)
    console = Console()
    if note:
        console.print(f"[yellow]{note}[/]")
    with bar() as progress:
        mine = len(pages[shard[0] :: shard[1]])
        task = progress.add_task("pages", total=mine, speed="")
        if arguments.devices:
            keep = passed_on(arguments.given)

            def tell_all(entries: list[Entry]) -> None:
                progress.update(task, completed=min(len(entries), mine), speed=speed(entries))

            several.run_on(several.devices(arguments.devices), keep, folder, shard, tell_all)
            if shard == (0, 1):
                several.merge(folder)
        read: list[Entry] = []

        def tell(page: PageInput, entry: Entry) -> None:
            read.append(entry)
            progress.update(task, advance=1, speed=speed(read))
            if entry.status not in ("ok", "blank"):
                progress.console.print(
                    f"{entry.name}: {entry.status}: {entry.reason}", markup=False
                )

        job = made_job(arguments, name, folder, shard)
        entries = job.run(
            pages,
            again=() if arguments.devices else arguments.retry,
            tell=tell,
            kept=lambda count: progress.update(task, completed=count),
        )
    return told(arguments, console, entries, pages, name, note)


def told(
    arguments: argparse.Namespace,
    console: Console,
    entries: Sequence[Entry],
    pages: Iterable[PageInput],
    name: str,
    note: str,
) -> int:
    """Exports, report and the last lines; 1 if a page failed."""
    folder = Path(arguments.output)
    counts = Counter(entry.status for entry in entries)
    words = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    console.print(f"{len(entries)} pages ({words}) in {arguments.output}", markup=False)
    for form in arguments.export:
        files = export(folder, form)
        console.print(f"{form}: {files[0] if files else 'nothing'} and on", markup=False)
    if not arguments.no_report:
        facts = {
            "model": name,
            "note": note,
            "device": arguments.endpoint or arguments.devices or arguments.device or "this machine",
            "command": shlex.join(["primum", "parse", *arguments.given]),
        }
        report = write_report(folder, pages, facts, dots(arguments))
        console.print(f"report: {report}", markup=False, highlight=False)
    close_pdfs()
    return 1 if counts["failed"] else 0


def run_estimate(arguments: argparse.Namespace) -> int:
    """Time a sample each way, and tell hours and cost of all pages."""
    check(arguments)
    if arguments.pages < 2:
        raise UserError("A sample has at least two pages", remedy="--pages 50")
    name, note = chosen_model(arguments, local=True)
    pages = list(find_pages(arguments.input))
    if note:
        Console().print(f"[yellow]{note}[/]")
    ways: dict[str, Reads] = {}
    if name:
        reader = local(arguments, name)
        plain = local(arguments, name, "plain").decoder
        ways = {"plain": Here(reader, plain), "drafted": Here(reader)}
    if arguments.endpoint:
        ways["endpoint"] = served(arguments, arguments.endpoint_model)
    job = made_job(arguments, name, Path("."), (0, 1), next(iter(ways.values())))
    sample = sampled(pages, arguments.pages, arguments.seed)
    with bar() as progress:
        task = progress.add_task("sample", total=1 + len(sample), speed="the first page twice")

        def tell(done: int) -> None:
            progress.update(task, completed=done, speed=", ".join(ways))

        taken = timed(job, ways, sample, tell)
    price = arguments.gpu_price
    found = estimates(taken, len(pages), price or 0.0, arguments.endpoint_price)
    table = Table(title=f"{len(pages)} pages, from {len(sample)} of them", title_justify="left")
    for column in ("way", "seconds a page", "hours (95 %)", "cost (95 %)", "failed"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for one in found:
        cost = "--gpu-price P" if price is None else interval(one.cost)
        table.add_row(one.way, f"{one.seconds:.2f}", interval(one.hours), cost, str(one.failed))
    console = Console(soft_wrap=True)
    console.print(table)
    for way in ("plain", "drafted", "endpoint"):
        if way not in ways:
            why = "no --endpoint was given" if way == "endpoint" else "no --model was given"
            console.print(f"{way}: not measured: {why}", markup=False)
    close_pdfs()
    if any(one.sample for one in found):
        console.print(verdict(found, price), markup=False)
    return 0


def interval(three: tuple[float, float, float]) -> str:
    """A mean with its interval."""
    return "{:.3g} ({:.3g} to {:.3g})".format(*three)


def made_job(
    arguments: argparse.Namespace,
    name: str,
    folder: Path,
    shard: tuple[int, int],
    reads: Reads | None = None,
) -> Job:
    """The job that was asked for; nothing is loaded yet."""
    from primum.parsing.drafters.native import NativeDrafter
    from primum.parsing.drafters.ocr import OcrDrafter

    if reads is None:
        reads = (
            served(arguments, arguments.model)
            if arguments.endpoint
            else Here(local(arguments, name))
        )
    drafter = NativeDrafter if arguments.drafts == "native" else OcrDrafter
    drafted = arguments.drafts in LOOKED and arguments.decoding != "plain"
    saved = Path(arguments.drafts_from) if arguments.drafts_from else None
    if saved is not None and not saved.is_dir():
        raise UserError("There is no such folder of drafts", file=saved)
    plain = arguments.decoding == "plain" and not arguments.endpoint
    return Job(
        reads,
        Output(
            folder,
            headers=getattr(arguments, "headers", "on") == "on",
            figures=not getattr(arguments, "no_figures", False),
        ),
        drafts="none" if plain else arguments.drafts,
        drafter=drafter if drafted else None,
        saved=None if plain else saved,
        workers=arguments.draft_workers,
        limits=Limits(arguments.max_new_tokens, arguments.page_timeout, arguments.on_loop),
        dpi=dots(arguments),
        together=arguments.together if arguments.endpoint else 1,
        shard=shard,
    )


def dots(arguments: argparse.Namespace) -> int:
    """Dots an inch of PDF pages."""
    tiny = str(arguments.model).rpartition("/")[2] in ("docvlm-tiny", "docvlm_tiny")
    return arguments.dpi or (DPI // 2 if tiny else DPI)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is loaded."""
    if arguments.max_new_tokens < 1 or (arguments.dpi is not None and arguments.dpi < 18):
        raise UserError("--max-new-tokens is at least 1 and --dpi at least 18")
    if arguments.together < 1 or arguments.draft_workers < 0:
        raise UserError("--together is at least 1 and --draft-workers at least 0")
    if arguments.endpoint and getattr(arguments, "verify", False):
        raise UserError(
            "A server does not show what --verify needs", remedy="use --model, or leave it out"
        )
    if arguments.endpoint and getattr(arguments, "devices", None):
        raise UserError("--devices are this machine's, --endpoint is a server's: choose one")


def passed_on(given: Sequence[str]) -> list[str]:
    """A command's arguments without those of `OWN`, which have one value each."""
    kept: list[str] = []
    skip = False
    for word in given:
        if skip:
            skip = False
        elif word.partition("=")[0] in OWN:
            skip = "=" not in word
        else:
            kept.append(word)
    return kept


def speed(entries: Sequence[Entry]) -> str:
    """Tokens a second, tokens a forward and the share that was drafted."""
    tokens = sum(entry.tokens for entry in entries)
    seconds = sum(entry.seconds for entry in entries)
    forwards = sum(entry.forwards for entry in entries)
    said = f"{tokens / max(seconds, 1e-9):.0f} tokens/s"
    if forwards:
        accepted = 100 * sum(entry.accepted for entry in entries) / max(tokens, 1)
        said += f", {tokens / forwards:.1f} a forward, {accepted:.0f} % drafted"
    return said


def bar() -> Progress:
    """A progress bar that says how fast."""
    columns: list[Any] = [
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
    ]  # fmt: skip
    return Progress(*columns, transient=True)
