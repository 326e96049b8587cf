"""Whatever `checkpoint=` names becomes one verified model, or one clear error."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from primum.checkpoints import manifest as manifests
from primum.checkpoints.manifest import Manifest, read_manifest, verify
from primum.checkpoints.released import entry, nearest
from primum.checkpoints.targets import check_targets
from primum.checkpoints.weights import check_directory, check_safetensors, fetched, read_json
from primum.errors import UserError
from primum.files import sha256

PACKAGE = "package:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found, and whose bytes are those its manifest vouches for.

    Args:
        name: What reports call it.
        kind: `adapter` (PEFT weights in `directory`, on `base`), `full` (a whole language model in
            `directory`, or `base` itself), `module` (the state of a LightningModule).
        directory: Where its own weights lie.
        base: Hub id, directory, GGUF file or `package:NAME` of the base model.
        base_revision: Revision of `base` on the hub.
        manifest: What is known of it, if it has a manifest.
        fingerprint: Hash over weights, base and template: two equal ones answer alike.
    """

    name: str
    kind: Literal["adapter", "full", "module"]
    directory: Path | None
    base: str | None
    base_revision: str | None
    manifest: Manifest | None
    fingerprint: str
    trusted_modules: tuple[str, ...] = ()
    trust_remote_code: bool = field(default=False, repr=False)

    def build_module(self) -> Any:
        """Build the LightningModule that the manifest describes and load its weights.

        Raises:
            UserError: There is no such module, or the weights do not fit it.
        """
        if self.manifest is None or self.kind != "module" or self.directory is None:
            raise UserError(
                f"`{self.name}` is a language model ({self.kind}), not the state of a module",
                remedy="load it with its own library, or give a run directory",
            )
        check_targets(
            self.manifest.module,
            self.trusted_modules,
            trust_remote_code=self.trust_remote_code,
        )
        from hydra.errors import HydraException
        from hydra.utils import instantiate
        from safetensors.torch import load_file

        file = self.directory / "model.safetensors"
        try:
            module = instantiate(self.manifest.module, _convert_="all")
            module.load_state_dict(load_file(file), strict=getattr(module, "strict_loading", True))
        except (HydraException, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"The module of `{self.name}` cannot be rebuilt from its manifest: {reason}",
                file=file,
                remedy="use the version of the code the manifest names under `code`",
            ) from error
        return module


def resolve(
    text: str | Path,
    *,
    trusted_modules: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Find and verify a model.

    Args:
        text: A manifest file, a run directory, a local Hugging Face directory (of a model or a PEFT
            adapter), a `.gguf` file, `package:NAME`, a hub id, or the name of an entry in
            `checkpoints/`.
        trusted_modules: Packages of the user that a manifest may build.
        trust_remote_code: Accept a model that comes with Python code.

    Raises:
        UserError: It is not there, was altered or truncated, is a pickle, or its manifest would
            build something that is no part of a model.
    """
    text = str(text).strip()
    options: dict[str, Any] = {
        "trusted_modules": tuple(trusted_modules),
        "trust_remote_code": trust_remote_code,
    }
    if not text:
        raise UserError("No model is named", remedy="checkpoint=RUN_DIRECTORY")
    if text.startswith(PACKAGE):
        return _named(text, text, None, options)
    path = Path(text).expanduser()
    if path.is_dir():
        return _directory(path, options)
    if path.is_file():
        if path.suffix == ".gguf":
            return _named(path.stem, str(path), None, options)
        if path.suffix in (".yaml", ".yml"):
            return _manifest(path, options)
        raise UserError(
            "A model is given as manifest.yaml, a directory or a hub id, not as this file",
            file=path,
            remedy="a Lightning .ckpt holds a pickle and resumes a run (resume=FILE); evaluate the "
            "run's directory instead",
        )
    listed = entry(text)
    if listed is not None:
        return _manifest(listed, options)
    path_like = (
        path.is_absolute() or text.startswith((".", "~")) or path.suffix in (".yaml", ".yml")
    )
    if path_like or not HUB_ID.fullmatch(text):
        close = nearest(text)
        raise UserError(
            f"`{text}` is no manifest, directory or entry of checkpoints/"
            + (f"; is it {' or '.join(close)}?" if close else ""),
            remedy="`primum checkpoints list` shows the entries; a hub id is OWNER/NAME",
        )
    return _hub(text, options)


def _directory(folder: Path, options: dict[str, Any]) -> Checkpoint:
    for file in (folder / manifests.FILE, folder.resolve().parent / manifests.FILE):
        if file.is_file() and (file.parent == folder or _covers(file, folder)):
            return _manifest(file, options)
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")) and (
        (folder / "config.yaml").is_file() or (folder / "checkpoints").is_dir()
    ):
        raise UserError(
            "This run left no model: it has no manifest.yaml, so it did not come to its end",
            file=folder,
            remedy=f"finish it: python train.py ... resume={folder}",
        )
    kind = check_directory(folder, trust_remote_code=options["trust_remote_code"])
    base = revision = None
    if kind == "adapter":
        config = read_json(folder / "adapter_config.json")
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
        if not base:
            raise UserError(
                "This adapter does not say which model it belongs to",
                file=folder / "adapter_config.json",
                remedy="set base_model_name_or_path in it",
            )
    parts = {"files": manifests.hashes(folder), "base": _identity(base, revision)}
    return Checkpoint(
        folder.resolve().name, kind, folder, base, revision, None, _digest(parts), **options
    )


def _covers(file: Path, folder: Path) -> bool:
    """Whether a manifest one level up is about this directory."""
    try:
        return read_manifest(file).weights.get("directory") == folder.resolve().name
    except UserError:
        return False  # some other file of that name


def _manifest(file: Path, options: dict[str, Any]) -> Checkpoint:
    manifest = read_manifest(file)
    check_targets(
        manifest.module,
        options["trusted_modules"],
        file=file,
        trust_remote_code=options["trust_remote_code"],
    )
    weights, base = manifest.weights, manifest.base or {}
    name, revision = base.get("name"), base.get("revision")
    kind = weights["format"]
    if weights.get("directory") is not None:
        directory = file.parent / weights["directory"]
        if not directory.is_dir():
            raise UserError(
                "The directory with the model's weights is missing",
                file=directory,
                remedy="copy the run with its weights, or train again",
            )
        for listed in weights["files"]:
            if listed.endswith(".safetensors"):  # says `truncated`, and before hashing gigabytes
                check_safetensors(directory / listed)
        verify(manifest, directory)
    elif weights.get("address"):
        directory = fetched(weights["address"], weights["files"])
    else:
        assert name is not None, "read_manifest saw to it"
        _check_base(manifest, file)
        return replace(_named(manifest.name, name, revision, options), manifest=manifest)
    if kind == "module":
        check_safetensors(directory / "model.safetensors")
    elif check_directory(directory, trust_remote_code=options["trust_remote_code"]) != kind:
        raise UserError(f"`weights.format` says {kind}, the directory holds another", file=file)
    if kind == "adapter":
        _check_base(manifest, file)
    parts = {"files": weights["files"], "base": base.get("files") or _identity(name, revision)}
    if kind == "module":
        parts["module"] = manifest.module
    # A whole model has left its base behind; the base stays in the manifest as its history.
    adapts = kind == "adapter"
    return Checkpoint(
        manifest.name,
        kind,
        directory,
        name if adapts else None,
        revision if adapts else None,
        manifest,
        _digest(parts),
        **options,
    )


def _hub(text: str, options: dict[str, Any]) -> Checkpoint:
    """A hub id, pinned to the commit it has now, or else to the one in the local cache.

    Without either it stays unpinned, and whoever loads the weights says what is in the way.
    """
    from huggingface_hub import model_info, try_to_load_from_cache

    commit: str | None = None
    files: set[str] = set()
    try:  # not a download, which would retry for a minute where there is no network
        info = model_info(text, timeout=10)
        commit, files = info.sha, {sibling.rfilename for sibling in info.siblings or ()}
    except Exception:  # which HTTP library raises here depends on the hub client's version
        for file in ("adapter_config.json", "config.json"):
            cached = try_to_load_from_cache(text, file)
            if isinstance(cached, str):
                commit, files = Path(cached).parent.name, {file}
    if "adapter_config.json" in files and "config.json" not in files:
        raise UserError(
            f"`{text}` is an adapter on the hub, without a manifest of ours",
            remedy=f"hf download {text} --local-dir DIR, then checkpoint=DIR",
        )
    return _named(text, text, commit, options)


def _named(name: str, base: str, revision: str | None, options: dict[str, Any]) -> Checkpoint:
    """A model that is nothing but its base."""
    fingerprint = _digest({"base": _identity(base, revision)})
    return Checkpoint(name, "full", None, base, revision, None, fingerprint, **options)


def _identity(base: str | None, revision: str | None) -> Any:
    """What is known of a base without loading it: hashes of local files, else name and revision."""
    if base is None:
        return None
    if base.startswith(PACKAGE):
        found = package_weights(base)
        return {file.name: sha256(file) for file in found} or base
    path = Path(base).expanduser()
    if path.is_dir():
        return manifests.hashes(path)
    if path.is_file():
        return sha256(path)
    return [base, revision]


def package_weights(name: str) -> list[Path]:
    """GGUF files inside the installed package of `package:NAME`, found without importing it."""
    package = name.removeprefix(PACKAGE)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return sorted(file for folder in folders for file in Path(folder).rglob("*.gguf"))


def _check_base(manifest: Manifest, file: Path) -> None:
    """Compare the base's local files with the hashes taken when the model was made from it."""
    base = manifest.base or {}
    name, expected = str(base.get("name")), base.get("files") or {}
    path = Path(name).expanduser()
    if name.startswith(PACKAGE):
        found = package_weights(name)
    elif path.is_dir():
        found = [path / listed for listed in expected if (path / listed).is_file()]
    else:
        found = [path] if path.is_file() else []
    for one in found:
        if one.name in expected and expected[one.name] != sha256(one):
            raise UserError(
                f"This file of the base model is not the one {file} was written for: "
                "its SHA-256 differs",
                file=one,
                remedy="bring back the version the manifest names under `base`",
            )


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
