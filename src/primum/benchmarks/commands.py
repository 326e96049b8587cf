"""`primum compare`: two evaluations side by side; `primum check-table`: can a table be true?"""

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
    check = subparsers.add_parser(
        "check-table",
        help="can a published table be true?",
        description="Recompute the means of published tables and name the cells that cannot be: "
        "beyond their scale, unequal to their parts, no whole number of items. Example: primum "
        "check-table safemed_r1.yaml. Exits with 1 if there are any.",
    )
    check.add_argument("tables", metavar="TABLES", help="a YAML file of tables and rules")
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Print every table's means and its impossible cells."""
    from primum.benchmarks.table_checks import read_tables

    wrong = 0
    for table in read_tables(arguments.tables):
        print(table.title)
        for name, means in table.recomputed().items():
            for column, mean in means.items():
                print(f"  {name}, {column}: printed {table.rows[name][column]}, mean {mean:.3f}")
        faults = table.faults()
        wrong += len(faults)
        for fault in faults:
            print(f"  wrong: {fault}")
    print(f"{wrong} cells cannot be true" if wrong else "nothing speaks against these tables")
    return int(wrong > 0)


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the page and print the table."""
    from primum.benchmarks.compare import compare, print_comparison, write_comparison

    comparison = compare([arguments.before, *arguments.more], arguments.after)
    page = write_comparison(comparison, arguments.output)
    print_comparison(comparison, page)
    return 0
