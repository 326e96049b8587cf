"""Weights as files: whole safetensors, nothing pickled, no code of a stranger, fetched once."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Literal

from primum.errors import UserError
from primum.files import full_disk_named, sha256

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
PORTED = ("dots_ocr",)  # models that come with code which is never run: a port of ours loads them
TRUNCATED = "copy or download it again"

Kind = Literal["adapter", "full"]


def cache_dir() -> Path:
    """Where downloads are kept: `$PRIMUM_CACHE`, else `~/.cache/primum`."""
    return Path(os.environ.get("PRIMUM_CACHE") or Path.home() / ".cache" / "primum").expanduser()


def check_safetensors(file: Path) -> None:
    """Compare a file's size with what its own header announces; no weight is read.

    Raises:
        UserError: It is missing, truncated, damaged or not safetensors at all.
    """
    if not file.is_file():
        raise UserError("A file of weights is missing", file=file, remedy=TRUNCATED)
    size = file.stat().st_size
    header: Any = None
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if 8 + length <= size:
            try:
                header = json.loads(stream.read(length))
            except ValueError:
                header = None
    try:
        ends = [item["data_offsets"][1] for key, item in header.items() if key != "__metadata__"]
        announced = 8 + length + max(ends, default=0)
    except (AttributeError, KeyError, IndexError, TypeError):
        raise UserError(
            "The weights are truncated, damaged, or no safetensors file: the header is unreadable",
            file=file,
            remedy=TRUNCATED,
        ) from None
    if size != announced:
        raise UserError(
            f"The weights are {'truncated' if size < announced else 'damaged'}: the file has "
            f"{size} bytes, its header announces {announced}",
            file=file,
            remedy=TRUNCATED,
        )


def check_directory(folder: Path, *, trust_remote_code: bool = False) -> Kind:
    """Say what a Hugging Face directory holds, having looked only at headers and sizes.

    Raises:
        UserError: It is no model, weights are missing, truncated or only there as a pickle, or it
            wants to run Python code of its own and was not trusted to.
    """
    adapter = (folder / "adapter_config.json").is_file()
    if not adapter and not (folder / "config.json").is_file():
        raise UserError(
            "This directory is no model: it has neither manifest.yaml nor config.json",
            file=folder,
            remedy="give a run directory, or the directory that holds config.json",
        )
    ported = read_json(folder / "config.json", missing={}).get("model_type") in PORTED
    for name in ("config.json", "tokenizer_config.json"):
        if ported or trust_remote_code:
            break
        if "auto_map" in read_json(folder / name, missing={}):
            raise UserError(
                "This model comes with Python code of its own, which is not run unasked",
                file=folder / name,
                remedy="read that code, then pass trust_remote_code=true",
            )
    for file in _weight_files(folder, adapter):
        check_safetensors(file)
    return "adapter" if adapter else "full"


def _weight_files(folder: Path, adapter: bool) -> list[Path]:
    single = folder / ("adapter_model.safetensors" if adapter else "model.safetensors")
    index = folder / f"{single.name}.index.json"
    if not single.is_file() and index.is_file():
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
        except (KeyError, AttributeError, TypeError):
            raise UserError("This index names no weights", file=index, remedy=TRUNCATED) from None
        if any(Path(str(name)).name != name for name in names):
            raise UserError("This index points outside its own directory", file=index)
        return [folder / name for name in names]
    pickles = sorted(file for pattern in PICKLES for file in folder.glob(pattern))
    if not single.is_file() and pickles:
        raise UserError(
            "The weights are a pickle, which can run any code when it is opened, so it is not read",
            file=pickles[0],
            remedy="convert it to safetensors where you trust it: "
            "model.save_pretrained(DIR, safe_serialization=True)",
        )
    return [single]


def read_json(file: Path, *, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: It is absent (unless `missing` is given), or does not hold one JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise UserError("This file is missing", file=file) from None
    except (OSError, ValueError) as error:
        raise UserError(f"This file is not readable JSON: {error}", file=file) from None
    if not isinstance(content, dict):
        raise UserError("This file should hold one JSON object", file=file)
    return content


def fetched(address: str, files: dict[str, str]) -> Path:
    """Download released weights once, resuming where an earlier try stopped, and check each hash.

    Args:
        address: An https folder; each file lies at `address/name`.
        files: SHA-256 by file name.

    Returns:
        The folder in the cache that holds exactly these files.

    Raises:
        UserError: No network, or a file is not the one the manifest vouches for.
    """
    together = hashlib.sha256("\n".join(sorted(map(" ".join, files.items()))).encode()).hexdigest()
    folder = cache_dir() / "weights" / together
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        target = folder / name
        if target.is_file() and sha256(target) == expected:
            continue
        partial = folder / f".{name}.part"
        with full_disk_named(target):
            _download(f"{address.rstrip('/')}/{name}", partial)
        found = sha256(partial)
        if found != expected:
            partial.unlink()
            raise UserError(
                f"{address.rstrip('/')}/{name} is not the file the manifest was written for: "
                f"its SHA-256 is {found}, not {expected}",
                remedy="ask whoever published it; do not use it",
            )
        os.replace(partial, target)
    return folder


def _received(response: IO[bytes]) -> bytes:
    try:
        return response.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise urllib.error.URLError(f"the connection broke off: {error}") from error


def _download(address: str, partial: Path) -> None:
    """Append what is still missing of `address` to `partial`."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            resumed = have > 0 and response.status == 206
            announced, arrived = response.headers.get("Content-Length"), 0
            with partial.open("ab" if resumed else "wb") as stream:
                while block := _received(response):
                    stream.write(block)
                    arrived += len(block)
                stream.flush()
                os.fsync(stream.fileno())
            if announced is not None and arrived < int(announced):  # urllib ends in silence
                raise urllib.error.URLError("the connection broke off")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing; the hash says whether it is right
            return
        raise UserError(
            f"{address} answered {error.code} {error.reason}", remedy="check the address"
        ) from None
    except urllib.error.URLError as error:
        raise UserError(
            f"The weights could not be downloaded from {address}: {error.reason}",
            file=partial.with_name(partial.name.removeprefix(".").removesuffix(".part")),
            remedy="connect to the network and run it again; what has arrived is kept",
        ) from None
