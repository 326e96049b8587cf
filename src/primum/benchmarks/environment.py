"""Where a number was made: versions, device, threads."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from primum import __version__

PACKAGES = ("torch", "lightning", "torchmetrics", "transformers", "peft", "numpy")


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions of what computes, and the machine it runs on."""
    versions = {"primum": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "device": device_name(device or torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        for line in cpu.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} CPUs)"
    return platform.processor() or platform.machine()
