"""`primum compare`: two evaluations side by side."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    """Add `compare` to the `primum` command."""
    parser = subparsers.add_parser(
        "compare",
        help="before and after, paired prompt by prompt",
        description="Compare evaluations of the same benchmark, paired prompt by prompt. Several "
        "seeds of a side are averaged, and the interval covers them.",
    )
    parser.add_argument("before", metavar="BEFORE", help="report.json or results folder")
    parser.add_argument("after", metavar="AFTER", nargs="+", help="one or more, one a seed")
    parser.add_argument(
        "--before",
        dest="more",
        metavar="BEFORE",
        action="append",
        default=[],
        help="another run of the side before, in the order of the runs after",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        default="compare.html",
        help="an .html file, or a folder for compare.html (default: %(default)s); the same figures "
        "go into a .json file beside it",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the page and print the table."""
    from primum.benchmarks.compare import compare, print_comparison, write_comparison

    comparison = compare([arguments.before, *arguments.more], arguments.after)
    page = write_comparison(comparison, arguments.output)
    print_comparison(comparison, page)
    return 0
