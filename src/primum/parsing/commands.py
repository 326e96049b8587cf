"""`primum parse`: pages to Markdown with any document model, several times faster."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

EXAMPLES = """\
examples:
  primum parse page.png -o out --model lightonai/LightOnOCR-1B-1025
  primum parse report.pdf -o out --model dots_ocr --pages 3-20 --verify
  primum parse scans/ -o out --model MODEL --shard 1/8      one of eight machines
  primum parse scans/ -o out --model MODEL --devices 4      four GPUs of this machine
  primum parse scans/ -o out --model MODEL --retry failed   what failed, once more
  primum parse scans/ -o out --endpoint http://localhost:8000/v1

also:
  primum parse estimate FOLDER --model MODEL --pages 50     hours and cost of the whole job
  primum parse export DIR --format parquet                  a finished job for other tools
  primum parse merge DIR                                    the shards' indexes into one

Run the same command again to go on where it stopped; finished pages are kept. DIR/report.html shows
the pages, who supplied which text, where the time went, and the proof that --verify made.
"""


def register(subparsers: Any) -> None:
    """Add `parse` and its verbs to the `primum` command."""
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
    add_reading(parser)
    parser.add_argument(
        "--pages", metavar="A-B", help="of PDFs and TIFFs with several, from 1 (default: all)"
    )
    parser.add_argument(
        "--headers", default="on", choices=("on", "off"),
        help="running headers, footers and page numbers in the Markdown (default: on)",
    )  # fmt: skip
    parser.add_argument("--no-figures", action="store_true", help="do not cut figures out")
    parser.add_argument(
        "--verify", action="store_true", help="prove every token by one pass over each output"
    )
    parser.add_argument(
        "--export", action="append", default=[], choices=("jsonl", "parquet", "docling"),
        help="also write the job in this form; may be repeated",
    )  # fmt: skip
    parser.add_argument("--devices", metavar="N|LIST", help="so many GPUs, or cuda:0,cuda:1")
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N", help="every N-th page, from the I-th"
    )
    parser.add_argument(
        "--retry", action="append", default=[],
        choices=("failed", "truncated", "looped", "timeout", "fallback"),
        help="read pages of this status once more; may be repeated",
    )  # fmt: skip
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    parser.set_defaults(run=run_parse)
    with_verbs(parser, {"estimate": estimate(), "export": exporting(), "merge": merging()})


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The model, the decoding and the limits of a page."""
    parser.add_argument(
        "--model",
        help="hub id, directory, a run's model folder, or an entry of `primum checkpoints list`"
        " such as dots_ocr; of an endpoint, the name it serves",
    )
    parser.add_argument("--endpoint", metavar="URL", help="a running OpenAI-compatible server")
    parser.add_argument(
        "--together", type=int, default=8, metavar="N", help="pages an endpoint reads at once"
    )
    parser.add_argument(
        "--prompt", default="", help="what the model is asked, where it needs words"
    )
    parser.add_argument(
        "--decoding", choices=("plain", "page", "region", "hierarchical", "auto"),
        help="page: drafts, same output (default); region: crops on their own (default of models"
        " made for that); hierarchical: crops draft for the page; plain: no drafts; auto:"
        " whichever is faster here",
    )  # fmt: skip
    parser.add_argument(
        "--drafts", default="auto", choices=("auto", "text", "ocr", "native", "none"),
        help="auto takes a PDF's text where there is some, else OCR; native: the PP-OCR and"
        " PP-DocLayout models of transformers, where their weights can be had",
    )  # fmt: skip
    parser.add_argument(
        "--drafts-from", metavar="DIR",
        help="output folder of PP-StructureV3, PaddleOCR-VL, MinerU or dots.ocr: what it kept of a"
        " page comes before other drafts",
    )  # fmt: skip
    parser.add_argument(
        "--draft-workers", type=int, default=1, metavar="N",
        help="processes in which OCR runs ahead of the model; 0 runs it in between (default: 1)",
    )  # fmt: skip
    parser.add_argument("--max-new-tokens", type=int, default=8192, metavar="N", help="of a page")
    parser.add_argument(
        "--page-timeout", type=float, metavar="S", help="seconds; what was read by then is kept"
    )
    parser.add_argument(
        "--on-loop", default="keep", choices=("stop", "keep"),
        help="stop ends a page that repeats itself; keep (default) writes what the model writes",
    )  # fmt: skip
    parser.add_argument("--dpi", type=int, help="of PDF pages (default: 144; docvlm-tiny: 72)")
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16 or float16")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ... (default: a GPU if there is one)")
    parser.add_argument("--trust-remote-code", action="store_true")


def estimate() -> argparse.ArgumentParser:
    """The parser of `primum parse estimate`."""
    parser = argparse.ArgumentParser(
        prog="primum parse estimate",
        description="Time some of your own pages each way, and tell hours and cost of all.",
    )
    parser.add_argument("input", help="a picture, a PDF, or a folder of both")
    add_reading(parser)
    parser.add_argument("--pages", type=int, default=50, metavar="N", help="of the sample")
    parser.add_argument("--gpu-price", type=float, metavar="P", help="of an hour of this device")
    parser.add_argument("--endpoint-model", metavar="NAME", help="as the server calls it")
    parser.add_argument("--endpoint-price", type=float, metavar="P", help="of the server's hour")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.set_defaults(run=run_estimate)
    return parser


def exporting() -> argparse.ArgumentParser:
    """The parser of `primum parse export`."""
    parser = argparse.ArgumentParser(prog="primum parse export")
    parser.add_argument("folder", help="of a job")
    parser.add_argument("--format", required=True, choices=("jsonl", "parquet", "docling"))
    parser.add_argument("--shard-size", type=int, default=1000, metavar="N", help="pages a file")
    parser.set_defaults(run=run_export)
    return parser


def merging() -> argparse.ArgumentParser:
    """The parser of `primum parse merge`."""
    parser = argparse.ArgumentParser(prog="primum parse merge")
    parser.add_argument("folder", help="that all shards wrote into")
    parser.set_defaults(run=run_merge)
    return parser


def with_verbs(parser: argparse.ArgumentParser, verbs: dict[str, argparse.ArgumentParser]) -> None:
    """Let a parser's first argument choose another one; a folder of that name is ./NAME."""
    known: Callable[..., Any] = parser.parse_known_args

    def parse(arguments: Sequence[str], namespace: Any = None) -> Any:
        if arguments and arguments[0] in verbs:
            return verbs[arguments[0]].parse_known_args(arguments[1:], namespace)
        found, rest = known(arguments, namespace)
        found.given = list(arguments)
        return found, rest

    parser.parse_known_args = parse  # type: ignore[method-assign, assignment]


def run_parse(arguments: argparse.Namespace) -> int:
    """Read the pages; 1 if any of them failed."""
    from primum.parsing.jobs.console import run

    return run(arguments)


def run_estimate(arguments: argparse.Namespace) -> int:
    """Print what the whole job will take."""
    from primum.parsing.jobs.console import run_estimate

    return run_estimate(arguments)


def run_export(arguments: argparse.Namespace) -> int:
    """Write a finished job in another form."""
    from pathlib import Path

    from primum.parsing.jobs.exports import export

    for file in export(Path(arguments.folder), arguments.format, max(1, arguments.shard_size)):
        print(file)
    return 0


def run_merge(arguments: argparse.Namespace) -> int:
    """Put the shards' indexes into one."""
    from pathlib import Path

    from primum.parsing.jobs.devices import merge

    print(f"{merge(Path(arguments.folder))} pages in {arguments.folder}/index.jsonl")
    return 0
