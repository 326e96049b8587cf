"""`primum data preview`: which tokens of your data a model would learn."""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    """Add `data preview` to the `primum` command."""
    data = subparsers.add_parser("data", help="look at training data as a model sees it")
    verbs = data.add_subparsers(metavar="VERB", required=True)
    parser = verbs.add_parser(
        "preview",
        help="show in colour which tokens carry loss",
        description="Show which tokens of a conversation carry loss under a model's chat template."
        " Fails if a learned turn does not learn its end-of-turn token.",
    )
    parser.add_argument("file", help="a .jsonl, .json, .csv or .parquet file, or a folder of them")
    parser.add_argument(
        "--model",
        required=True,
        help="a hub id, a directory, a .gguf file, package:NAME, or a name in conf/model",
    )
    parser.add_argument("--format", default="auto", help="the data's format (default: by columns)")
    parser.add_argument("--rows", type=_positive, default=3, help="how many rows (default: 3)")
    parser.add_argument("--supervise", choices=("last", "all"), default="last")
    parser.add_argument("--thinking", choices=("keep", "drop"), default="keep")
    parser.add_argument("--max-length", type=_positive, help="refuse rows with more tokens")
    parser.add_argument("--chat-template", metavar="JINJA", help="use this template instead")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--html", metavar="OUT", help="also write the preview to this HTML file")
    parser.set_defaults(run=run_preview)


def run_preview(arguments: argparse.Namespace) -> int:
    """Print the preview; 1 if an end-of-turn token carries no loss."""
    from dataclasses import replace

    from primum.language.formats import read_conversations
    from primum.language.preview import preview, show
    from primum.language.source import named_source

    conversations = read_conversations(arguments.file, arguments.format)
    source = replace(named_source(arguments.model), trust_remote_code=arguments.trust_remote_code)
    if arguments.chat_template is not None:
        source = replace(source, chat_template=arguments.chat_template)
    tokenizer = source.tokenizer()
    previews = preview(
        tokenizer,
        conversations[: arguments.rows],
        supervise=arguments.supervise,
        thinking=arguments.thinking,
        max_length=arguments.max_length,
    )
    return 0 if show(previews, tokenizer, html=arguments.html) else 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number
