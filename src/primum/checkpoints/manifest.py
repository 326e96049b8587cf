"""A manifest says what a model is, byte for byte: how to build it, from what, and how it did."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

import primum
from primum.errors import UserError
from primum.files import atomic_write, sha256

SCHEMA_VERSION = 1
FILE = "manifest.yaml"
FORMATS = ("adapter", "full", "module")
LEVELS = ("measured", "layout", "config")
SHA256 = re.compile(r"[0-9a-f]{64}")
READ_ME = (".md",)

# From version n to n + 1, in turn; each takes and returns what stands in the YAML.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


@dataclass
class Manifest:
    """One model.

    Args:
        name: The experiment, `family/name`.
        run_id: The run that made it; empty for a model that was not made here.
        module: Resolved config of the LightningModule; later edits of `conf/` cannot change it.
        weights: `directory` (beside the manifest), `format` (`adapter`, `full` or `module`),
            `files` (SHA-256 by name) and, for released weights, `address` (an https folder).
            Without directory and address, `base` itself is the model.
        base: `name`, `revision` and `files` of the model it was made from.
        data: `name`, `split`, `rows` and `sha256` of each data set.
        template_sha256: Of the chat template.
        code: `version`, `commit` and `dirty` of this package.
        environment: Versions, device, precision.
        metrics: The last values of the run.
        card: `title`, `licence`, `data`, `intended_use`, `not_for`.
        level: `measured` (real weights met the published score), `layout` (key map and a toy
            forward pass only), `config`; None for the result of a run.
        created: UTC, ISO 8601.
    """

    name: str
    run_id: str
    module: dict[str, Any]
    weights: dict[str, Any]
    base: dict[str, Any] | None = None
    data: list[dict[str, Any]] = field(default_factory=list)
    template_sha256: str | None = None
    code: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    level: str | None = None
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema_version: int = SCHEMA_VERSION


KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "run_id": (str,),
    "module": (dict,),
    "weights": (dict,),
    "base": (dict, type(None)),
    "data": (list,),
    "template_sha256": (str, type(None)),
    "code": (dict,),
    "environment": (dict,),
    "metrics": (dict,),
    "card": (dict,),
    "level": (str, type(None)),
    "created": (str,),
    "schema_version": (int,),
}
REQUIRED = ("schema_version", "name", "run_id", "module", "weights")


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest of this or an older schema version.

    Raises:
        UserError: It is missing, is no YAML, was written by a newer Primum, or a key is missing,
            unknown or of the wrong kind; the message names file and key.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("There is no such manifest", file=path) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(
            "This manifest is not readable YAML",
            file=path,
            row=mark.line + 1 if mark else None,
            remedy="copy it again; a manifest is written by Primum and not by hand",
        ) from None
    if not isinstance(content, dict):
        raise UserError("A manifest is a mapping of keys to values, and this is not", file=path)
    content = migrated(content, path)
    for key in REQUIRED:
        if key not in content:
            raise UserError(f"This manifest lacks the key `{key}`", file=path)
    for key, value in content.items():
        if key not in KINDS:
            raise UserError(f"This manifest has an unknown key `{key}`", file=path)
        _expect(value, KINDS[key], key, path)
    manifest = Manifest(**content)
    _check_weights(manifest, path)
    _check_rest(manifest, path)
    return manifest


def migrated(
    content: dict[str, Any],
    path: Path,
    migrations: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = MIGRATIONS,
    current: int = SCHEMA_VERSION,
) -> dict[str, Any]:
    """Bring what an older version wrote to the current schema."""
    found = content.get("schema_version")
    if found is None:
        raise UserError("This manifest lacks the key `schema_version`", file=path)
    _expect(found, (int,), "schema_version", path)
    if found > current:
        raise UserError(
            f"This manifest has schema version {found}, and this Primum knows versions up to "
            f"{current}",
            file=path,
            remedy="pip install --upgrade primum",
        )
    while found < current:
        if found not in migrations:
            raise UserError(f"There never was a manifest of schema version {found}", file=path)
        content = migrations[found](dict(content))
        found += 1
        content["schema_version"] = found
    return content


def write_manifest(manifest: Manifest, folder: str | Path) -> Path:
    """Write `manifest.yaml` into a folder, whole or not at all."""
    path = Path(folder) / FILE
    content = plain(asdict(manifest))
    ordered = {"schema_version": content.pop("schema_version"), **content}
    atomic_write(path, yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100))
    return path


def verify(manifest: Manifest, folder: str | Path) -> None:
    """Hash every file of the weights; `folder` is the directory they lie in.

    Raises:
        UserError: A file is missing, altered, or was added where it could change the model.
    """
    folder = Path(folder)
    listed = manifest.weights["files"]
    for name, expected in listed.items():
        file = folder / name
        if not file.is_file():
            raise UserError(
                "A file of the model is missing",
                file=file,
                remedy="copy the whole directory again, or train again",
            )
        found = sha256(file)
        if found != expected:
            raise UserError(
                f"This file is not the one the manifest was written for: its SHA-256 is "
                f"{found[:12]}..., not {expected[:12]}...",
                file=file,
                remedy="copy it again; if you changed it on purpose, give the directory of the "
                "model without its manifest",
            )
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        known = name in listed or name == FILE or file.suffix in READ_ME
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if file.is_file() and not known and not hidden:
            raise UserError(
                "This file is not in the manifest, and what lies beside weights can change a model",
                file=file,
                remedy="move it elsewhere",
            )


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a model's directory, by name; read-me files are left out."""
    return {
        file.relative_to(folder).as_posix(): sha256(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and file.name != FILE
        and file.suffix not in READ_ME
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    }


def code_version() -> dict[str, Any]:
    """Version of this package and, in a checkout, the commit and whether it was altered since."""
    checkout = Path(primum.__file__).resolve().parents[2]
    commit: str | None = None
    dirty: bool | None = None
    if (checkout / ".git").exists():
        commit = _git(checkout, "rev-parse", "HEAD")
        changes = _git(checkout, "status", "--porcelain", "--untracked-files=no")
        dirty = None if changes is None else bool(changes)
    return {"version": primum.__version__, "commit": commit, "dirty": dirty}


def environment() -> dict[str, Any]:
    """Versions that can change a number."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "lightning", "transformers", "peft", "deepspeed"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """What YAML can hold: configs, paths, tensors of one number and dtypes become plain values."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if type(value).__module__.startswith("omegaconf"):
        from omegaconf import OmegaConf

        return plain(OmegaConf.to_container(value, resolve=True))
    if callable(getattr(value, "item", None)):
        return value.item()
    return str(value)


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _expect(value: Any, kinds: tuple[type, ...], key: str, path: Path) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
        raise UserError(
            f"`{key}` should be {wanted}, and is {type(value).__name__}: {str(value)[:60]!r}",
            file=path,
        )


def _check_weights(manifest: Manifest, path: Path) -> None:
    weights = manifest.weights
    for key in ("format", "files"):
        if key not in weights:
            raise UserError(f"This manifest lacks the key `weights.{key}`", file=path)
    for key in weights:
        if key not in ("directory", "format", "files", "address"):
            raise UserError(f"This manifest has an unknown key `weights.{key}`", file=path)
    if weights["format"] not in FORMATS:
        raise UserError(
            f"`weights.format` is one of {', '.join(FORMATS)}, not {weights['format']!r}", file=path
        )
    _check_files(weights["files"], "weights.files", path)
    directory, address = weights.get("directory"), weights.get("address")
    if directory is not None:
        _expect(directory, (str,), "weights.directory", path)
        if not _stays_inside(directory):
            raise UserError(f"`weights.directory` leaves its folder: {directory!r}", file=path)
    if address is not None and not (
        isinstance(address, str) and address.startswith("https://") and weights["files"]
    ):
        raise UserError("`weights.address` is an https folder, with hashes in `files`", file=path)
    if (directory is None and address is None) and manifest.base is None:
        raise UserError("This manifest says nowhere where the weights are", file=path)
    if weights["format"] == "adapter" and manifest.base is None:
        raise UserError("An adapter needs the key `base`: the model it belongs to", file=path)


def _check_rest(manifest: Manifest, path: Path) -> None:
    if manifest.base is not None:
        if not isinstance(manifest.base.get("name"), str):
            raise UserError("This manifest lacks the key `base.name`", file=path)
        _check_files(manifest.base.get("files") or {}, "base.files", path)
    if manifest.level is not None and manifest.level not in LEVELS:
        raise UserError(f"`level` is one of {', '.join(LEVELS)}, not {manifest.level!r}", file=path)
    for i, row in enumerate(manifest.data):
        _expect(row, (dict,), f"data[{i}]", path)
    for key, value in manifest.metrics.items():
        _expect(value, (int, float), f"metrics.{key}", path)


def _check_files(files: Any, key: str, path: Path) -> None:
    _expect(files, (dict,), key, path)
    for name, value in files.items():
        if not isinstance(name, str) or not _stays_inside(name):
            raise UserError(f"`{key}` names a file outside its folder: {name!r}", file=path)
        if not isinstance(value, str) or not SHA256.fullmatch(value):
            raise UserError(f"`{key}.{name}` is no SHA-256 (64 hex digits)", file=path)


def _stays_inside(name: str) -> bool:
    pure = PurePosixPath(name)
    return not (pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name)
