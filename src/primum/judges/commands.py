"""`primum judges`: train the response classifier and publish its mistakes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from primum.errors import UserError


def register(commands: Any) -> None:
    """Add `primum judges`."""
    judges = commands.add_parser("judges", help="train a judge, and count its mistakes")
    kinds = judges.add_subparsers(metavar="WHAT", required=True)
    train = kinds.add_parser(
        "train",
        help="the response classifier, from human-labelled answers",
        description="Example: primum judges train --source xstest=model_completions/ "
        "--source pyrit --source medsafetybench=ft_safety_med_n900.json. Leaves one source out at "
        "a time and publishes the confusion, then writes weights trained on everything.",
    )
    train.add_argument(
        "--source", action="append", required=True, metavar="NAME[=PATH]",
        help="xstest=FOLDER, pyrit[=FOLDER] (the installed package's by default), "
        "medsafetybench=FILE (its training answers)",
    )  # fmt: skip
    train.add_argument("-o", "--output", default=".", help="folder for weights and confusion")
    train.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the sources, train and write."""
    from primum.judges.labelled_sources import READERS, off_topic, pyrit_folder
    from primum.judges.labels import REFUSAL_LABELS
    from primum.judges.response_classifier import WEIGHTS
    from primum.judges.training import differences, train

    package = Path(__file__).parents[1]
    places = {
        "own": REFUSAL_LABELS,
        "examples": REFUSAL_LABELS.with_name("refusal_examples.jsonl"),
        "twins": package / "alignment" / "data" / "twins.jsonl",
    }
    for given in arguments.source:
        name, _, place = given.partition("=")
        if name not in READERS:
            raise UserError(
                f"There is no source {name!r}", remedy=f"one of {', '.join(READERS)}, as NAME=PATH"
            )
        if not place and name != "pyrit":
            raise UserError(f"Where is {name}?", remedy=f"--source {name}=FOLDER")
        places[name] = Path(place).expanduser() if place else pyrit_folder()
    if "pyrit" in places:
        places["pyrit achieved"] = places["pyrit"]
    rows = [row for name, place in places.items() for row in READERS[name](place)]
    output = Path(arguments.output)
    train(rows + off_topic(rows), output)
    made = output / WEIGHTS.name
    if made.resolve() != WEIGHTS.resolve():
        other = differences(made, WEIGHTS)
        print(f"compared with the shipped weights: {'; '.join(other) or 'the same, bit for bit'}")
    return 0
