"""`python -m primum.segmentation.release RUN`: the teacher of a self-distilled ViT, ready to ship.

Writes `checkpoints/segmentation/NAME/model.safetensors` in half precision and its manifest beside
the folder, from the run's own manifest.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from primum.checkpoints.manifest import FILE, write_manifest
from primum.checkpoints.released import released_dir
from primum.checkpoints.resolve import resolve
from primum.errors import UserError
from primum.files import sha256

TEACHER = "teacher.network."


def release(run: str | Path, folder: Path | None = None) -> Path:
    """Write weights and manifest of a run of `DenseSelfDistillation`; the manifest's path.

    Raises:
        UserError: The run is of another module.
    """
    found = resolve(run)
    if found.manifest is None or found.directory is None or "network" not in found.manifest.module:
        raise UserError("This is no run of `segmentation/uniseg_tiny`", file=run)
    manifest = found.manifest
    state = {
        key.removeprefix(TEACHER): value.to(torch.float16).contiguous()
        for key, value in load_file(found.directory / "model.safetensors").items()
        if key.startswith(TEACHER)
    }
    name = manifest.name.rpartition("/")[2]
    root = (folder or released_dir()) / "segmentation"
    weights = root / name / "model.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, weights)
    size = sum(value.numel() for value in state.values())
    card: dict[str, Any] = manifest.card | {
        "size": f"{size / 1e6:.1f} M parameters, {weights.stat().st_size / 1e6:.1f} MB"
    }
    made = replace(
        manifest,
        module=manifest.module["network"],
        weights={
            "directory": name, "format": "module", "files": {weights.name: sha256(weights)},
        },
        card=card,
        level="config",  # until somebody measures it
    )  # fmt: skip
    path = write_manifest(made, root / name)
    return path.replace(root / f"{name}{Path(FILE).suffix}")


if __name__ == "__main__":
    print(release(sys.argv[1]))
