"""The models in `checkpoints/`: found by name, listed, and told in a table."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from primum.checkpoints.manifest import Manifest, read_manifest
from primum.errors import UserError

LEVELS = (
    ("measured", "real weights met the published score here"),
    ("layout", "the key map and a toy forward pass were tested, real weights were not"),
    ("config", "the entry says what to load; nothing was measured here"),
)


def released_dir() -> Path:
    """Folder of the manifests: the packaged one, else the checkout's."""
    packaged = Path(str(resources.files("primum"))) / "released"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "checkpoints"


def entries() -> dict[str, Path]:
    """Manifest files by name, which is their path without the ending."""
    folder = released_dir()
    return {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in sorted(folder.rglob("*.yaml"))
    }


def entry(name: str) -> Path | None:
    """The manifest of that name, or whose last part is that name if only one is."""
    known = entries()
    if name in known:
        return known[name]
    alike = [file for key, file in known.items() if key.rpartition("/")[2] == name]
    if len(alike) > 1:
        keys = ", ".join(key for key, file in known.items() if file in alike)
        raise UserError(f"There are several entries called `{name}`", remedy=f"name one: {keys}")
    return alike[0] if alike else None


def nearest(name: str) -> list[str]:
    """Names of entries that look like this one."""
    known = entries()
    short = {key.rpartition("/")[2]: key for key in known}
    close = get_close_matches(name, [*known, *short], n=3, cutoff=0.6)
    return list(dict.fromkeys(short.get(match, match) for match in close))


def rows() -> list[tuple[str, str, str, str, str]]:
    """Name, level, licence, size and place of each entry."""
    return [_row(name, read_manifest(file)) for name, file in entries().items()]


def _row(name: str, manifest: Manifest) -> tuple[str, str, str, str, str]:
    weights, base = manifest.weights, manifest.base or {}
    where = weights.get("address") or weights.get("directory") or base.get("name", "")
    return (
        name,
        manifest.level or "",
        str(manifest.card.get("licence", "")),
        str(manifest.card.get("size", "")),
        str(where),
    )


def table() -> str:
    """The entries as the Markdown table of `checkpoints/README.md`."""
    lines = ["| name | level | licence | size | where |", "|---|---|---|---|---|"]
    lines += [f"| `{name}` | {' | '.join(rest)} |" for name, *rest in rows()]
    return "\n".join(lines)


def readme() -> str:
    """The text of `checkpoints/README.md`."""
    levels = "\n".join(f"- `{level}`: {meaning}." for level, meaning in LEVELS)
    return f"""\
# Released models

One manifest a model: what to build, which weights byte for byte (by address and SHA-256), from
what data, how good, and what it is not for. `evaluate.py checkpoint=NAME` takes a name from here.
`primum checkpoints list --readme` writes this file from the manifests.

{table()}

{levels}

To release a model: upload the weights, copy the run's `manifest.yaml` here as
`<family>/<name>.yaml`, set `weights.address` to their https folder, fill the card, and choose the
level.
"""
