"""`primum segment`: masks of pictures without a label, from any backbone's features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  primum segment photo.jpg -o out --backbone vit_base_patch8_224.dino
  primum segment photos/ -o out --backbone vit_small_patch14_reg4_dinov2.lvd142m --layer tokens
  primum segment photos/ -o out --backbone NAME --weights dino_b8.safetensors --layer keys
  primum segment photos/ -o out --backbone NAME --devices 4 --shard 1/8   a machine of eight
  primum segment photos/ -o out --backbone NAME --retry failed            what failed, once more
  primum segment merge out                     shards in one folder: COCO file and gallery
  primum segment merge out1 out2 -o all        shards of several machines
  primum segment tune photos/ --backbone NAME -o mine.yaml                thresholds that suit it
  primum segment photos/ -o out --settings mine.yaml

usual backbones:
  vit_{small,base}_patch{8,16}_224.dino     DINO; --layer keys as MaskCut takes them
  vit_{small,base,large}_patch14_reg4_dinov2.lvd142m
  vit_{small,base,large}_patch16_dinov3.lvd1689m
  package:efficientnet_lite0                supervised init; works offline with primum[peers]
Any other of timm.list_models() will do.

Run the same command again to go on where it stopped; finished pictures are kept.
A file called `merge` or `tune` is given as ./merge.
"""


def register(subparsers: Any) -> None:
    """Add `segment`, `segment merge` and `segment tune` to the `primum` command."""
    parser = subparsers.add_parser(
        "segment",
        help="masks of pictures without labels (UniAP): COCO file, label maps, gallery",
        description="Cut pictures into nested regions, fine to coarse, without any label."
        " Writes a COCO file, label maps, overlays and one HTML gallery.",
        usage="primum segment FILE|FOLDER -o DIR --backbone NAME [options]\n"
        "       primum segment merge DIR [DIR ...] [-o DIR]\n"
        "       primum segment tune FOLDER --backbone NAME -o FILE",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", help="a picture, or a folder of pictures")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    add_backbone(parser)
    parser.add_argument(
        "--preset", choices=("recommended", "paper", "author_code"), help="default: recommended"
    )
    parser.add_argument("--settings", metavar="FILE", help="what `primum segment tune` wrote")
    parser.add_argument(
        "--thresholds", nargs="+", type=float, metavar="T", help="similarity a level, falling"
    )
    parser.add_argument(
        "--min-area", type=int, default=4, metavar="N", help="tokens of a mask (default: 4)"
    )
    parser.add_argument(
        "--no-snap", action="store_true", help="keep borders on the token grid, move none to edges"
    )
    parser.add_argument("--no-maps", action="store_true", help="write no label maps")
    parser.add_argument(
        "--devices", type=int, default=1, metavar="N", help="GPUs, or processes without one"
    )
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N", help="every N-th picture, from the I-th"
    )
    parser.add_argument(
        "--retry",
        action="append",
        default=[],
        choices=("failed", "uniform", "crowded"),
        help="segment pictures of this status once more; may be repeated",
    )
    parser.add_argument(
        "--gallery", type=int, default=200, metavar="N", help="pictures in it (default: 200)"
    )
    parser.set_defaults(run=run_segment)

    merge = argparse.ArgumentParser(
        prog="primum segment merge",
        description="COCO file and gallery of shards: of one folder, or of several into one.",
    )
    merge.add_argument("folders", nargs="+", metavar="DIR", help="what was given after -o")
    merge.add_argument("-o", "--output", metavar="DIR", help="needed for several folders")
    merge.add_argument("--gallery", type=int, default=200, metavar="N")
    merge.set_defaults(run=run_merge)

    tune = argparse.ArgumentParser(
        prog="primum segment tune",
        description="Find thresholds for a backbone on pictures without labels: those at which the"
        " wanted effective numbers of regions remain, with or without the mean feature, whichever"
        " gives regions that change less when the picture is mirrored.",
    )
    tune.add_argument("input", help="a folder of pictures; some dozens are enough")
    tune.add_argument("-o", "--output", required=True, metavar="FILE", help="settings, as YAML")
    add_backbone(tune)
    tune.add_argument("--limit", type=int, default=40, help="pictures, evenly spread (default: 40)")
    tune.add_argument(
        "--regions", nargs="+", type=float, default=[64, 32, 16, 8, 4], metavar="N",
        help="effective number wanted at each level (default: 64 32 16 8 4)",
    )  # fmt: skip
    tune.set_defaults(run=run_tune)
    give_verbs(parser, {"merge": merge, "tune": tune})


def give_verbs(parser: argparse.ArgumentParser, verbs: dict[str, argparse.ArgumentParser]) -> None:
    """Let a first word that is a verb be read by the verb's own parser."""
    plain = parser.parse_known_args

    def parse(args: Any = None, namespace: Any = None) -> Any:
        if args and args[0] in verbs:
            return verbs[args[0]].parse_known_args(args[1:], namespace)
        return plain(args, namespace)

    parser.parse_known_args = parse  # type: ignore[method-assign]


def add_backbone(parser: argparse.ArgumentParser) -> None:
    """What says where features come from."""
    parser.add_argument("--backbone", metavar="NAME", help="see below; there is no default")
    parser.add_argument("--weights", metavar="FILE", help="its .safetensors; default: timm's own")
    parser.add_argument(
        "--layer", nargs="+", metavar="L", help="tokens (default), keys, or stages of a CNN"
    )
    parser.add_argument(
        "--size", type=int, metavar="PX", help="longer side it is shown (default: 480)"
    )
    parser.add_argument("--device", help="cuda, cuda:1, cpu ... (default: a GPU if there is one)")


def run_segment(arguments: argparse.Namespace) -> int:
    """Segment pictures; 1 if any of them failed, 130 if it was interrupted."""
    from rich.console import Console

    from primum.errors import UserError
    from primum.jobs.shards import share
    from primum.segmentation.jobs.inputs import find_pictures
    from primum.segmentation.jobs.many import Plan, run_many

    try:
        shard = share(arguments.shard)
    except ValueError as error:
        raise UserError(str(error)) from None
    if arguments.devices < 1 or arguments.min_area < 1 or (arguments.size or 1) < 1:
        raise UserError("--devices, --min-area and --size are at least 1")
    folder = Path(arguments.output)
    pictures = find_pictures(arguments.input, besides=[folder])
    console = Console()
    plan = Plan(
        uniap=uniap_options(arguments),
        folder=folder,
        maps=not arguments.no_maps,
        device=arguments.device,
        again=tuple(arguments.retry),
    )
    try:
        entries = run_many(plan, pictures, shard, arguments.devices, console)
    except KeyboardInterrupt:
        console.print("stopped; finished pictures are kept, the same command goes on")
        return 130
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.status] = counts.get(entry.status, 0) + 1
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    masks = sum(entry.regions for entry in entries)
    console.print(f"{len(entries)} pictures ({told}), {masks} masks", markup=False)
    if shard[1] == 1:
        finish(folder, arguments.gallery, console)
    else:
        console.print(f"when all shards are done: primum segment merge {folder}", markup=False)
    return 1 if counts.get("failed") else 0


def uniap_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `UniAP` from the command line and a file of settings."""
    from primum.errors import UserError
    from primum.segmentation.tuned import read_settings

    given: dict[str, Any] = {
        "backbone": arguments.backbone, "weights": arguments.weights, "size": arguments.size,
        "layer": layer(arguments.layer), "preset": arguments.preset,
        "thresholds": arguments.thresholds,
    }  # fmt: skip
    found: dict[str, Any] = {}
    if arguments.settings:
        found = read_settings(arguments.settings)
        found.pop("found", None)
        for name in ("backbone", "layer", "weights"):
            if given[name] is not None and given[name] != found.get(name):
                raise UserError(
                    f"These settings are for {name} {found.get(name)}, not {given[name]}",
                    file=arguments.settings,
                    remedy="tune again for this one: primum segment tune",
                )
    found |= {name: value for name, value in given.items() if value is not None}
    if "backbone" not in found:
        raise UserError(
            "No backbone is named, and none is chosen silently",
            remedy="--backbone vit_base_patch8_224.dino, or another of primum segment --help",
        )
    options: dict[str, Any] = {"min_area": arguments.min_area}
    if arguments.settings:  # thresholds belong to the balance they were found with
        options["balance"] = float(found.pop("balance", 0.0))
    return {"preset": "recommended"} | found | {"options": options, "snap": not arguments.no_snap}


def layer(words: list[str] | None) -> str | list[int] | None:
    """A layer's name, or stages of a convolutional network."""
    if words is None:
        return None
    return [int(word) for word in words] if all(map(str.isdigit, words)) else " ".join(words)


def finish(folder: Path, most: int, console: Any) -> None:
    """Write the COCO file and the gallery, and say where they are."""
    from primum.segmentation.coco import entries, kept_settings, write_coco
    from primum.segmentation.gallery import write_gallery

    found = entries(folder)
    told = kept_settings(folder)["told"]
    facts = {name: told[name] for name in ("backbone", "weights", "preset", "levels")}
    if all(entry.status == "failed" for entry in found):
        return
    path = write_coco(folder, {"description": "UniAP pseudo-masks"} | facts)
    console.print(f"masks:   {path}", markup=False, soft_wrap=True)
    path = write_gallery(folder, found, facts, most)
    console.print(f"gallery: {path}", markup=False, soft_wrap=True)


def run_merge(arguments: argparse.Namespace) -> int:
    """Bring shards together."""
    from rich.console import Console

    from primum.errors import UserError
    from primum.segmentation.coco import gather

    parts = [Path(folder) for folder in arguments.folders]
    folder = Path(arguments.output) if arguments.output else parts[0]
    if len(parts) > 1 and not arguments.output:
        raise UserError("Several folders need a new one to go to", remedy="-o DIR")
    if arguments.output:
        gather(parts, folder)
    finish(folder, arguments.gallery, Console())
    return 0


def run_tune(arguments: argparse.Namespace) -> int:
    """Find thresholds, print what they give, and write them."""
    from primum.segmentation.tuning import run

    return run(arguments)
