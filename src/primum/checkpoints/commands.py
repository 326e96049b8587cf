"""`primum checkpoints`: make, list, verify, export and compare models."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from primum.checkpoints.manifest import Manifest
    from primum.checkpoints.resolve import Checkpoint

API_KEY = "OPENAI_API_KEY"


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add `checkpoints` and its verbs to the command line."""
    group = subparsers.add_parser(
        "checkpoints", help="list, verify, export and compare models", description=__doc__
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="the models in checkpoints/, with what was tested of each")
    verb.add_argument("--readme", action="store_true", help="write checkpoints/README.md")
    verb.set_defaults(run=_list)

    verb = verbs.add_parser("verify", help="hash a model's files and compare with its manifest")
    _model(verb)
    verb.add_argument(
        "--golden",
        metavar="FILE",
        help="of a document model: let it read fixed pages, and write what it wrote or, if FILE is"
        " there, say what differs from it",
    )
    verb.add_argument("--weights", metavar="DIRECTORY", help="with --golden: where they lie")
    verb.add_argument("--dtype", default="auto", help="with --golden: how they are run")
    verb.set_defaults(run=_verify)

    verb = verbs.add_parser(
        "export", help="a plain Hugging Face directory with manifest and golden answers"
    )
    _model(verb)
    verb.add_argument("-o", "--output", required=True, metavar="DIRECTORY", help="a new folder")
    verb.add_argument("--merge", action="store_true", help="add the adapter into its base model")
    verb.add_argument("--base", metavar="DIRECTORY", help="where the base model lies")
    verb.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="of merged weights (merging itself is done in float32)",
    )
    verb.set_defaults(run=_export)

    verb = verbs.add_parser(
        "check-served", help="is a server the model that was evaluated? Exits with 1 if not"
    )
    verb.add_argument("url", metavar="URL", help="such as http://localhost:8000/v1")
    given = verb.add_mutually_exclusive_group(required=True)
    given.add_argument("--checkpoint", metavar="MODEL", help="run or model directory, or hub id")
    given.add_argument("--golden", metavar="FILE", help="golden.json that `export` wrote")
    verb.add_argument("--model", metavar="NAME", help="if the server serves several")
    verb.add_argument("--base", metavar="DIRECTORY", help="where the base model lies")
    _trust(verb)
    verb.set_defaults(run=_check_served)

    verb = verbs.add_parser(
        "convert",
        help="pickled weights (.pth, .pkl) as safetensors; nothing in them is run",
        epilog="primum checkpoints convert dino_vitbase8_pretrain.pth -o dino_b8.safetensors; "
        "primum checkpoints convert cutler_cascade_final.pth --as cutler -o models/cutler",
    )
    verb.add_argument("file", metavar="FILE", help=".pth, .pt, .bin, .ckpt or detectron2's .pkl")
    verb.add_argument("-o", "--output", required=True, help="a .safetensors file, or with --as DIR")
    verb.add_argument("--as", dest="kind", choices=("unsam", "cutler"), help="a model we know")
    verb.add_argument("--part", help="which weights, where a file holds teacher and student")
    verb.set_defaults(run=_convert)

    verb = verbs.add_parser("tiny", help="a small random model, for tests and dry runs")
    verb.add_argument("output", metavar="DIRECTORY")
    verb.add_argument(
        "--architecture",
        default="qwen3",
        metavar="NAME",
        help="qwen3 (default), llama, gemma3, or a document model of `list` such as dots_ocr",
    )
    verb.add_argument("--hidden", type=int, default=32)
    verb.add_argument("--layers", type=int, default=2)
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(run=_tiny)


def _model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "checkpoint",
        metavar="MODEL",
        help="run directory, manifest.yaml, model directory, hub id, or a name from `list`",
    )
    _trust(verb)


def _trust(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--trusted-modules", nargs="+", default=[], metavar="PACKAGE", help="yours, to be built"
    )
    verb.add_argument(
        "--trust-remote-code", action="store_true", help="run code that comes with a model"
    )


def _resolved(arguments: argparse.Namespace):  # type: ignore[no-untyped-def]
    from primum.checkpoints.resolve import resolve

    return resolve(
        arguments.checkpoint,
        trusted_modules=arguments.trusted_modules,
        trust_remote_code=arguments.trust_remote_code,
    )


def _list(arguments: argparse.Namespace) -> int:
    from primum.checkpoints.released import LEVELS, readme, released_dir, rows
    from primum.files import atomic_write

    if arguments.readme:
        path = released_dir() / "README.md"
        atomic_write(path, readme())
        print(path)
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("name", "level", "licence", "size", "where"):
        table.add_column(title, no_wrap=title in ("name", "level"), overflow="fold")
    for row in rows():
        table.add_row(*row)
    console = Console()
    console.print(table)
    for level, meaning in LEVELS:
        console.print(f"{level}: {meaning}", highlight=False)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    found = _resolved(arguments)
    if arguments.golden:
        return _golden(found, arguments)
    if found.manifest is not None and found.directory is not None:
        print(f"{len(found.manifest.weights['files'])} files have the SHA-256 of the manifest")
    elif found.directory is not None:
        print("whole, but there is no manifest to compare its hashes with")
    else:
        print("only named here; its files are looked at when they are loaded")
    print(f"{found.name}: {found.kind}, fingerprint {found.fingerprint[:12]}")
    return 0


def _built(manifest: Manifest | None) -> Any:
    """What a manifest says to build, if its `_target_` is allowed; None if it says nothing."""
    from hydra.utils import instantiate

    from primum.checkpoints.targets import check_targets

    if manifest is None or "_target_" not in manifest.module:
        return None
    check_targets(manifest.module)
    return instantiate(manifest.module)


def _golden(found: Checkpoint, arguments: argparse.Namespace) -> int:
    """Build what the manifest describes, and let it read."""
    from primum.errors import UserError

    adapter = _built(found.manifest)
    if not hasattr(adapter, "golden"):
        raise UserError(
            f"`{found.name}` is no document model with an adapter",
            remedy="name one of `primum checkpoints list`, such as parsing/dots_ocr, and say where"
            " its weights are with --weights DIRECTORY",
        )
    weights = arguments.weights or str(found.directory or found.base)
    fine, told = adapter.golden(weights, arguments.golden, arguments.dtype)
    print("\n".join(told))
    return 0 if fine else 1


def _export(arguments: argparse.Namespace) -> int:
    from primum.checkpoints.merge import export

    folder, golden = export(
        _resolved(arguments),
        arguments.output,
        merge=arguments.merge,
        base_directory=arguments.base,
        dtype=arguments.dtype,
    )
    print(f"model:  {folder}")
    if golden is not None:
        ended = sum(answer.finish == "stop" for answer in golden.answers)
        print(
            f"golden: {len(golden.answers)} prompts, {ended} answered to their end of turn\n"
            f"next:   serve it (vllm serve {folder}), then "
            f"primum checkpoints check-served URL --golden {folder / 'golden.json'}"
        )
    return 0


def _check_served(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from primum.checkpoints.golden import read_golden, record
    from primum.checkpoints.served import check_served

    if arguments.golden:
        golden = read_golden(arguments.golden)
    else:
        found = _resolved(arguments)
        beside = (found.directory or Path()) / "golden.json"
        if found.directory is not None and beside.is_file():
            golden = read_golden(beside)
        else:
            from primum.checkpoints.loading import load

            golden = record(*load(found, arguments.base), name=found.name)
    verdict = check_served(
        arguments.url, golden, model=arguments.model, api_key=os.environ.get(API_KEY)
    )
    table = Table("check", "", "found")
    words = {True: Text("same", "green"), False: Text("differs", "red"), None: Text("untested")}
    for check in verdict.checks:
        table.add_row(check.name, words[check.passed], Text(check.detail))
    console = Console()
    console.print(table)
    said = "is" if verdict.same else "is not shown to be"
    console.print(f"{verdict.url} ({verdict.model}) {said} {golden.model}", highlight=False)
    return 0 if verdict.same else 1


def _convert(arguments: argparse.Namespace) -> int:
    from primum.checkpoints.convert import convert, convert_known

    if arguments.kind:
        folder, found = convert_known(
            arguments.file, arguments.output, arguments.kind, arguments.part
        )
        print(f"{folder}: {found}")
        return 0
    state = convert(arguments.file, arguments.output, arguments.part)
    keys = list(state)
    print(f"{arguments.output}: {len(keys)} tensors, {sum(t.numel() for t in state.values()):,} "
          f"values; {keys[0]} ... {keys[-1]}")  # fmt: skip
    return 0


def _tiny(arguments: argparse.Namespace) -> int:
    from primum.checkpoints.manifest import read_manifest
    from primum.checkpoints.released import entry
    from primum.checkpoints.tiny import make_tiny

    folder = Path(arguments.output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        from primum.errors import UserError

        raise UserError("This folder is not empty", file=folder, remedy="choose another")
    listed = entry(arguments.architecture)
    if listed is not None:
        tiny = getattr(_built(read_manifest(listed)), "tiny", None)
        if tiny is not None:
            print(tiny(folder, arguments.seed))
            return 0
    print(
        make_tiny(
            folder,
            arguments.architecture,
            hidden=arguments.hidden,
            layers=arguments.layers,
            seed=arguments.seed,
        )
    )
    return 0
