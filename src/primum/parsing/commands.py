"""`primum parse`: pages to Markdown with any document model, several times faster."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = """\
examples:
  primum parse page.png -o out --model lightonai/LightOnOCR-1B-1025
  primum parse report.pdf -o out --model MODEL --pages 3-20 --decoding auto
  primum parse scans/ -o out --model MODEL --shard 1/8      one of eight machines
  primum parse scans/ -o out --model MODEL --retry failed   what failed, once more

Run the same command again to go on where it stopped; finished pages are kept.
"""


def register(subparsers: Any) -> None:
    """Add `parse` to the `primum` command."""
    parser = subparsers.add_parser(
        "parse",
        help="read pages (pictures, PDFs, folders) into Markdown",
        description="Read pages into Markdown and JSON with any document model of transformers."
        " Drafts from a PDF's own text or from OCR make it faster; the model decides every token.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", help="a picture, a PDF, or a folder of both")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument(
        "--model",
        required=True,
        help="hub id, directory, a run's model folder, or an entry of `primum checkpoints list`"
        " such as dots_ocr",
    )
    parser.add_argument(
        "--prompt", default="", help="what the model is asked, where it needs words"
    )
    parser.add_argument("--pages", metavar="A-B", help="of PDFs, from 1 (default: all)")
    parser.add_argument(
        "--decoding",
        choices=("plain", "page", "region", "hierarchical", "auto"),
        help="page: drafts, same output (default); region: crops on their own (default of models"
        " made for that); hierarchical: crops draft for the page; plain: no drafts; auto:"
        " whichever is faster here",
    )
    parser.add_argument(
        "--drafts",
        default="auto",
        choices=("auto", "text", "ocr", "none"),
        help="auto takes a PDF's text where there is some, else OCR",
    )
    parser.add_argument("--max-new-tokens", type=int, default=8192, metavar="N", help="of a page")
    parser.add_argument(
        "--page-timeout", type=float, metavar="S", help="seconds; what was read by then is kept"
    )
    parser.add_argument("--dpi", type=int, default=144, help="of PDF pages (default: 144)")
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16 or float16")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ... (default: a GPU if there is one)")
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N", help="every N-th page, from the I-th"
    )
    parser.add_argument(
        "--retry",
        action="append",
        default=[],
        choices=("failed", "truncated", "looped", "timeout", "fallback"),
        help="read pages of this status once more; may be repeated",
    )
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.set_defaults(run=run_parse)


def run_parse(arguments: argparse.Namespace) -> int:
    """Read the pages; 1 if any of them failed."""
    from pathlib import Path

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from primum.errors import UserError
    from primum.jobs.shards import share
    from primum.parsing.jobs.index import Entry
    from primum.parsing.jobs.inputs import PageInput, find_pages, page_range
    from primum.parsing.jobs.job import Job

    try:
        chosen = page_range(arguments.pages) if arguments.pages else None
        shard = share(arguments.shard)
    except ValueError as error:
        raise UserError(str(error)) from None
    if arguments.max_new_tokens < 1 or arguments.dpi < 18:
        raise UserError("--max-new-tokens is at least 1 and --dpi at least 18")
    pages = list(find_pages(arguments.input, chosen))
    job = Job(
        made_reader(arguments),
        Path(arguments.output),
        drafts=arguments.drafts,
        max_new_tokens=arguments.max_new_tokens,
        dpi=arguments.dpi,
        timeout=arguments.page_timeout,
        shard=shard,
    )
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
    )  # fmt: skip
    with Progress(*columns, transient=True) as progress:
        mine = len(pages[shard[0] :: shard[1]])
        bar = progress.add_task("pages", total=mine, speed="")
        totals = {"tokens": 0, "forwards": 0, "seconds": 0.0}

        def tell(page: PageInput, entry: Entry) -> None:
            for name in totals:
                totals[name] += getattr(entry, name)
            rate = totals["tokens"] / max(totals["seconds"], 1e-9)
            each = totals["tokens"] / max(totals["forwards"], 1)
            speed = f"{rate:.0f} tokens/s, {each:.1f} a forward"
            progress.update(bar, advance=1, speed=speed)
            if entry.status not in ("ok", "blank"):
                progress.console.print(
                    f"{entry.name}: {entry.status}: {entry.reason}", markup=False
                )

        entries = job.run(pages, again=arguments.retry, tell=tell)
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.status] = counts.get(entry.status, 0) + 1
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    Console().print(f"{len(entries)} pages ({told}) in {arguments.output}", markup=False)
    return 1 if counts.get("failed") else 0


def made_reader(arguments: argparse.Namespace) -> Any:
    """The model with the chosen decoding, on its device; nothing is loaded yet."""
    from primum.parsing.decoding.decoder import Decoder, Mode
    from primum.parsing.drafters.ocr import OcrDrafter
    from primum.parsing.pretrained import PretrainedVlm
    from primum.parsing.reader import PageReader
    from primum.parsing.speculation.alignment import Alignment
    from primum.parsing.speculation.own_output import OwnOutput
    from primum.parsing.speculation.region_match import RegionMatch
    from primum.parsing.targets.known import adapter_named, named

    name = named(arguments.model)
    adapter = adapter_named(name)
    by_region = adapter is not None and adapter.unit == "region"
    mode: Mode = arguments.decoding or ("region" if by_region else "page")
    proposers = [] if mode == "plain" else [RegionMatch, OwnOutput, Alignment]
    decoder = Decoder(mode, proposers, batch=8 if mode in ("region", "hierarchical") else 1)
    drafter = OcrDrafter() if arguments.drafts in ("ocr", "auto") else None
    if mode == "plain":
        drafter = None
    model = PretrainedVlm(
        name, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code
    )
    return PageReader(
        model, arguments.prompt, decoder=decoder, drafter=drafter, device=arguments.device or "auto"
    )
