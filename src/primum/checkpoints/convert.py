"""The one door for pickled weights: read with every unknown class refused, leave as safetensors."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primum.checkpoints.manifest import Manifest, code_version, hashes, write_manifest
from primum.errors import UserError
from primum.files import atomic_folder, sha256

PARTS = ("model", "state_dict", "model_state_dict", "teacher", "student", "ema")  # of a file

#: Models whose released files are known: the class that takes their weights by its key map
KNOWN = {
    "unsam": "primum.segmentation.released.unsam.UnSam",
    "cutler": "primum.segmentation.released.cutler.CutLer",
}


class RestrictedUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; anything else in the file is refused.

    detectron2's `.pkl` files hold nothing more.
    """

    ALLOWED = {  # noqa: RUF012
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.ALLOWED:
            return self.ALLOWED[module, name]
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return array_shell
        if (module, name) == ("_codecs", "encode"):
            return latin_bytes
        raise pickle.UnpicklingError(f"{module}.{name} is neither an array nor a container")


def array_shell(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """What NumPy fills when an array is unpickled; no other class is made."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("only plain arrays are read")
    return np.ndarray((0,), np.int8)


def latin_bytes(text: str, encoding: str) -> bytes:
    """Bytes as Python 2 wrote them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding} is not known")
    return text.encode("latin1")


def read_pickled(path: str | Path) -> Any:
    """The content of a `.pth`, `.pt`, `.bin`, `.ckpt` (PyTorch) or `.pkl` (NumPy) file.

    Raises:
        UserError: It is not there, damaged, or holds more than tensors and containers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("There is no such file", file=path)
    try:
        if path.suffix == ".pkl":
            with path.open("rb") as stream:
                return RestrictedUnpickler(stream, encoding="latin1").load()
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"This file holds more than weights, or is damaged: {reason}",
            file=path,
            remedy="nothing of it was run; ask its author for weights alone, best as safetensors",
        ) from None
    except (EOFError, RuntimeError, ValueError, AttributeError, IndexError, KeyError, TypeError,
            OSError) as error:  # fmt: skip
        reason = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"This file is damaged: {reason}", file=path) from None


def state_of(
    content: Any, part: str | None = None, file: str | Path | None = None
) -> dict[str, Tensor]:
    """The tensors of what a file holds, by key.

    Args:
        content: What `read_pickled` gave.
        part: Which part, where a file has several (`teacher`, `student`).
        file: Named in the error.

    Raises:
        UserError: There are no tensors, or several parts and none was named.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"This file holds a {type(content).__name__}, not named weights", file=file)
    found = [name for name in PARTS if isinstance(content.get(name), Mapping)]
    if part is not None:
        if part not in content:
            raise UserError(f"This file has no part {part!r}", file=file,
                            remedy=f"it has {', '.join(map(str, content))}")  # fmt: skip
        return state_of(content[part], None, file)
    if len(found) > 1:
        raise UserError(
            f"This file holds several sets of weights: {', '.join(found)}",
            file=file,
            remedy=f"name one with --part {found[0]}",
        )
    if found:
        return state_of(content[found[0]], None, file)
    state = {}
    for key, value in content.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, Tensor):
            state[str(key)] = value.detach().clone().contiguous()  # shared memory is written twice
    if not state:
        raise UserError("This file holds no weights", file=file)
    return state


def convert(source: str | Path, output: str | Path, part: str | None = None) -> dict[str, Tensor]:
    """Write the weights of a pickled file as safetensors, their keys as they are.

    Returns:
        What was written.

    Raises:
        UserError: It cannot be read, or the output is no .safetensors file.
    """
    from safetensors.torch import save

    from primum.files import atomic_write

    if Path(output).suffix != ".safetensors":
        raise UserError("Weights are written to a .safetensors file", file=output,
                        remedy="-o NAME.safetensors")  # fmt: skip
    state = state_of(read_pickled(source), part, source)
    told = {"source": Path(source).name, "source_sha256": sha256(source)}
    atomic_write(output, save(state, told))
    return state


def convert_known(
    source: str | Path, output: str | Path, kind: str, part: str | None = None
) -> tuple[Path, Any]:
    """Write a released model as a folder that `checkpoint=` takes: weights and manifest.

    Args:
        kind: One of `KNOWN`.

    Returns:
        The folder, and the coverage report of its keys.

    Raises:
        UserError: The file is of another layout, or the folder exists.
    """
    from safetensors.torch import save_model

    folder = Path(output)
    if folder.exists():
        raise UserError("This folder exists already", file=folder, remedy="choose another")
    room, _, name = KNOWN[kind].rpartition(".")
    module = getattr(import_module(room), name)()
    found = module.load_released(state_of(read_pickled(source), part, source), source)
    with atomic_folder(folder) as partial:
        save_model(module, str(partial / "model.safetensors"))
        manifest = Manifest(
            name=f"segmentation/{kind}",
            run_id="",
            module={"_target_": KNOWN[kind]},
            weights={"directory": ".", "format": "module", "files": hashes(partial)},
            code=code_version(),
            card={
                "title": module.layout,
                "source": Path(source).name,
                "source_sha256": sha256(source),
                "coverage": str(found).splitlines()[0],
            },
            level="layout",
        )
        write_manifest(manifest, partial)
    return folder, found
