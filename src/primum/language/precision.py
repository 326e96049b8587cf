"""Which number format to compute in: what this device does fastest without losing the result."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

from primum.errors import UserError
from primum.files import atomic_write

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CLEARLY = 1.25  # how much faster bf16 must be to give up fp32's digits


def pick_dtype(device: str | None = None, requested: str = "auto") -> torch.dtype:
    """The dtype to load a model in.

    `auto` is bfloat16 on a GPU that computes in it. On a CPU, fp32 and bf16 are timed against each
    other (forward and backward, about a second) and bf16 is taken only where the processor has
    instructions for it and it is clearly faster. The answer is kept in the cache, so that all
    ranks, and training and evaluation, agree; delete `precision-*.json` there to time again.

    Args:
        device: `cpu`, `cuda` ...; a GPU if there is one otherwise.
        requested: `auto`, or a dtype's name (`bf16`, `bfloat16`, `fp32`, `float32`, `float16`).

    Raises:
        UserError: There is no such dtype.
    """
    import torch

    names = {
        "fp32": torch.float32, "float32": torch.float32, "32": torch.float32,
        "bf16": torch.bfloat16, "bfloat16": torch.bfloat16,
        "fp16": torch.float16, "float16": torch.float16,
    }  # fmt: skip
    if requested != "auto":
        if requested not in names:
            raise UserError(
                f"There is no dtype `{requested}`",
                remedy="use auto, float32, bfloat16 or float16",
            )
        return names[requested]
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device != "cpu":
        return torch.float32
    return torch.bfloat16 if _cpu_speedup() >= CLEARLY else torch.float32


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX, or Arm's)."""
    import torch

    if platform.machine() in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _cpu_speedup() -> float:
    """How many times faster bf16 is than fp32 here; 0 where the processor lacks it."""
    import torch
    from filelock import FileLock

    from primum.language.gguf import cache_dir

    if not cpu_has_bf16():
        return 0.0
    threads, version = torch.get_num_threads(), torch.__version__.split("+")[0]
    file = cache_dir() / f"precision-{_processor()}-{version}-{threads}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):  # one rank times, the others read what it found
            speedup = _kept(file)
            if speedup is None:
                speedup = time_bf16_against_fp32()
                atomic_write(file, json.dumps({"speedup": round(speedup, 2)}))
    except (OSError, UserError):
        speedup = time_bf16_against_fp32()
        log.warning("The timing of bf16 cannot be kept in %s; set PRIMUM_CACHE", file.parent)
    log.info("bf16 is %.1f times as fast as fp32 on this CPU (%d threads)", speedup, threads)
    return speedup


def _kept(file: Path) -> float | None:
    try:
        return float(json.loads(file.read_text())["speedup"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def time_bf16_against_fp32() -> float:
    """Time of fp32 over time of bf16, on a transformer block's matrix products (about a second).

    The two take turns and the best of each counts, so that what else runs here slows both alike.
    """
    import torch

    def block(dtype: torch.dtype) -> torch.nn.Module:
        layers = (torch.nn.Linear(576, 1536), torch.nn.SiLU(), torch.nn.Linear(1536, 576))
        return torch.nn.Sequential(*layers).to(dtype)

    def seconds(layers: torch.nn.Module, dtype: torch.dtype) -> float:
        tokens = torch.ones(256, 576, dtype=dtype, requires_grad=True)
        start = time.perf_counter()
        layers(tokens).sum().backward()
        return time.perf_counter() - start

    blocks = {dtype: block(dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(blocks, float("inf"))
    for _ in range(24):
        for dtype, layers in blocks.items():
            best[dtype] = min(best[dtype], seconds(layers, dtype))
    return best[torch.float32] / best[torch.bfloat16]


def _processor() -> str:
    """A name for this kind of processor: a home folder may be shared by several."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind = [line for line in lines if line.startswith(("model", "stepping", "CPU part"))]
    except OSError:
        kind = [platform.processor()]
    return hashlib.sha256("\n".join(sorted(set(kind))).encode()).hexdigest()[:12]
