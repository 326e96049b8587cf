"""`primum governance`: one report for a board."""

from __future__ import annotations

import argparse
import os
from typing import Any


def register(subparsers: Any) -> None:
    """Add `governance` to the `primum` command."""
    parser = subparsers.add_parser(
        "governance",
        help="safety, over-refusal and capability side by side, with lineage and hashes",
        description="Gather the evidence on a model into one page, and say what is missing from "
        "it. Reports of the same benchmark are compared, paired prompt by prompt.",
        epilog="example:\n  primum governance --before outputs/evaluate/safety_quick/base "
        "outputs/evaluate/clinical_qa/base \\\n    --after outputs/evaluate/safety_quick/tuned "
        "outputs/evaluate/clinical_qa/tuned \\\n    --checkpoint outputs/alignment/cts/RUN "
        "--store trust --seal seal.json -o governance.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--before", nargs="+", default=[], metavar="REPORT")
    parser.add_argument("--after", nargs="+", required=True, metavar="REPORT")
    parser.add_argument("--checkpoint", metavar="MODEL", help="run, manifest or directory")
    parser.add_argument("--store", default=os.environ.get("PRIMUM_TRUST"), metavar="DIR")
    parser.add_argument("--seal", nargs="+", default=[], metavar="FILE", help="kept elsewhere")
    parser.add_argument("--runs", nargs="+", default=[], metavar="DIR")
    parser.add_argument("-o", "--output", default="governance.html", metavar="OUT")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Gather, write and say where; 1 if the trust log is broken."""
    from primum.benchmarks.governance import governance, write_governance

    report = governance(
        arguments.before,
        arguments.after,
        arguments.checkpoint,
        arguments.store,
        arguments.runs,
        arguments.seal,
    )
    page = write_governance(report, arguments.output)
    for one in report["missing"]:
        print(f"not shown: {one}")
    print(f"report: {page}")
    broken = report["trust"] is not None and not report["trust"]["verdict"]["whole"]
    return 1 if broken else 0
