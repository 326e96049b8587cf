"""A model made ready to be served: whole or merged, its manifest and golden answers beside it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.checkpoints.export import full_disk_noticed, readable
from primum.checkpoints.golden import Golden, difference, record, write_golden
from primum.checkpoints.loading import load
from primum.checkpoints.manifest import Manifest, code_version, environment, hashes, write_manifest
from primum.checkpoints.resolve import Checkpoint, resolve
from primum.errors import UserError
from primum.files import atomic_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")


def export(
    checkpoint: Checkpoint,
    out: str | Path,
    *,
    merge: bool = False,
    base_directory: str | None = None,
    dtype: str = "float32",
) -> tuple[Path, Golden | None]:
    """Write a plain Hugging Face directory with `manifest.yaml` and `golden.json`.

    Merging is done in float32, and what was written is asked the golden prompts again: it must say
    what the adapter on its base said.

    Args:
        out: A folder that does not exist yet.
        merge: Add the adapter's weights into those of its base.
        base_directory: Where the base lies, if it cannot be found by itself.
        dtype: In which to write merged weights; below float32 they are rounded.

    Returns:
        The folder, and the golden answers (None for the state of a module).

    Raises:
        UserError: `out` exists, there is nothing to merge, the disk is full, or what was written
            does not answer like what was given.
    """
    out = Path(out).expanduser()
    if out.exists():
        raise UserError("This folder exists already", file=out, remedy="choose another with -o")
    if dtype not in DTYPES:
        raise UserError(f"Weights are written as {', '.join(DTYPES)}, not as {dtype}")
    if merge and checkpoint.kind != "adapter":
        raise UserError(
            f"`{checkpoint.name}` has no adapter to merge: it is a {checkpoint.kind} model",
            remedy="leave --merge out",
        )
    if checkpoint.kind == "module":
        assert checkpoint.directory is not None
        with atomic_folder(out) as partial, full_disk_noticed(out):
            _copy(checkpoint.directory, partial)
            write_manifest(_manifest(checkpoint, partial, "module"), partial)
        return out, None
    model, tokenizer = load(checkpoint, base_directory)
    golden = record(model, tokenizer, name=checkpoint.name)
    with atomic_folder(out) as partial, full_disk_noticed(out):
        if merge:
            _save_merged(model, tokenizer, partial, dtype)
        elif checkpoint.directory is not None:
            _copy(checkpoint.directory, partial)
        else:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        readable(partial)
        form = "full" if merge else checkpoint.kind
        written = resolve(partial, trust_remote_code=checkpoint.trust_remote_code)
        names = {
            name: sha for name, sha in hashes(partial).items() if name.endswith(".safetensors")
        }
        golden = replace(golden, weights=names)
        if merge:
            again = record(*load(replace(written, name=checkpoint.name)), name=checkpoint.name)
            told = difference(golden, again, tolerance=1e-3 if dtype == "float32" else 0.25)
            if told:
                raise UserError(
                    f"The merged model does not answer like its adapter: {told}",
                    file=out,
                    remedy="nothing was written; try --dtype float32",
                )
        write_golden(golden, partial)
        write_manifest(_manifest(checkpoint, partial, form), partial)
    return out, golden


def _save_merged(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: str) -> None:
    import torch

    generation_config = model.generation_config
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    merged.generation_config = generation_config
    if dtype != "float32":
        merged = merged.to(getattr(torch, dtype))
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _copy(source: Path, target: Path) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file() and file.name not in ("manifest.yaml", "golden.json"):
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _manifest(checkpoint: Checkpoint, folder: Path, form: str) -> Manifest:
    """The run's manifest, with the weights that lie in `folder` now."""
    known = checkpoint.manifest or Manifest(
        name=checkpoint.name, run_id="", module={}, weights={}, code=code_version()
    )
    base = known.base
    if base is None and checkpoint.base is not None:
        base = {"name": checkpoint.base, "revision": checkpoint.base_revision, "files": {}}
    return replace(
        known,
        weights={"directory": ".", "format": form, "files": hashes(folder)},
        base=base,
        environment=known.environment or environment(),
    )
