"""One COCO file for all pictures of an output folder, in the order of their names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from primum.errors import UserError
from primum.files import atomic_write
from primum.jobs.index import read_index
from primum.segmentation.jobs.index import Entry

FILE = "annotations.json"
PARTS = ("masks", "labels", "overlays", "cards")


def entries(folder: Path) -> list[Entry]:
    """The latest entry of each picture of a folder, by name.

    Raises:
        UserError: `primum segment` has not been here.
    """
    found = {entry.name: entry for entry in read_index(folder, Entry)}
    if not found:
        raise UserError(
            "This is no output of `primum segment`",
            file=folder,
            remedy="name the folder that was given after -o",
        )
    return [found[name] for name in sorted(found)]


def kept_settings(folder: Path) -> dict[str, Any]:
    """What a folder's masks depend on.

    Raises:
        UserError: It does not say.
    """
    import yaml

    path = folder / "settings.yaml"
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(
            f"The settings of this output cannot be read: {error}",
            file=path,
            remedy="copy the whole folder again",
        ) from None


def write_coco(folder: Path, info: dict[str, Any]) -> Path:
    """Write `annotations.json` from the pictures' own files, one in memory at a time.

    Ids count over all pictures in the order of their names, so that shards give the file that one
    run gives. What a shard is still at is not in it.
    """
    names = [entry.name for entry in entries(folder) if entry.status != "failed"]

    def images() -> Iterator[dict[str, Any]]:
        for number, one in enumerate(pictures(folder, names), 1):
            yield {key: one[key] for key in ("file_name", "height", "width")} | {"id": number}

    def annotations() -> Iterator[dict[str, Any]]:
        before = 0
        for number, one in enumerate(pictures(folder, names), 1):
            for found in one["annotations"]:
                parent = found["parent"]
                yield found | {
                    "id": found["id"] + before,
                    "image_id": number,
                    "parent": None if parent is None else parent + before,
                }
            before += len(one["annotations"])

    path = folder / FILE
    partial = path.with_name(f".{FILE}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        categories = [{"id": 1, "name": "region"}]
        stream.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps(categories)},\n')
        stream.write('"images": [\n')
        stream.writelines(lines(images()))
        stream.write('],\n"annotations": [\n')
        stream.writelines(lines(annotations()))
        stream.write("]}\n")
    partial.replace(path)
    return path


def lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Rows of a JSON list, one a line."""
    for place, row in enumerate(rows):
        yield ("" if place == 0 else ",\n") + json.dumps(row)
    yield "\n"


def pictures(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each picture's own file.

    Raises:
        UserError: It is missing or damaged.
    """
    for name in names:
        path = folder / "masks" / f"{name}.json"
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"The masks of `{name}` cannot be read: {error}",
                file=path,
                remedy="remove the folder's index*.jsonl and segment again",
            ) from None


def gather(parts: Sequence[Path], folder: Path) -> None:
    """Bring the outputs of several machines into one folder.

    Raises:
        UserError: The parts were made with different settings, or name pictures alike.
    """
    settings: list[dict[str, Any]] = []
    owner: dict[str, Path] = {}
    for part in parts:
        for entry in entries(part):
            if entry.name in owner and entry.status != "failed":
                raise UserError(
                    f"`{entry.name}` was segmented in two parts, {owner[entry.name]} and {part}",
                    remedy="merge shards of one input: --shard 1/2 and --shard 2/2",
                )
            owner[entry.name] = part
        settings.append(kept_settings(part))
    if any(one != settings[0] for one in settings):
        raise UserError(
            "These parts were made with different backbones or settings",
            file=parts[0],
            remedy="compare their settings.yaml",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts, 1):
        for name in PARTS:
            if (part / name).is_dir():
                shutil.copytree(part / name, folder / name, dirs_exist_ok=True)
        for index in sorted(part.glob("index*.jsonl")):
            shutil.copyfile(index, folder / f"index-part{number:03d}-{index.name}")
    atomic_write(folder / "settings.yaml", (parts[0] / "settings.yaml").read_bytes())
