"""Who started this process, which rank it is, and the run id that all ranks share."""

import gc
import os
import re
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from primum.errors import UserError

RUN_ID = "PRIMUM_RUN_ID"


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Rank of this process as its launcher told it, before Lightning is imported."""
    for name in ("RANK", "SLURM_PROCID" if slurm_task(environment) else "", "LOCAL_RANK"):
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 0


def slurm_task(environment: Mapping[str, str]) -> bool:
    """Whether `srun` started this process, not a shell inside an allocation."""
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment and not interactive


def started_outside(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun, deepspeed or srun made the ranks, so that Lightning need not."""
    return {"RANK", "WORLD_SIZE"} <= set(environment) or slurm_task(environment)


def restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launcher runs this job again after a failure or a requeue."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(environment.get(name, "0") not in ("", "0") for name in counts)


def run_id(environment: Mapping[str, str] = os.environ) -> str:
    """A name for this run that every rank arrives at by itself.

    In order: `PRIMUM_RUN_ID` (exported by the first process to the children it starts), the
    launcher's id, the launcher's own process on one machine, else the time and four random
    letters.

    Raises:
        UserError: Ranks on several machines have nothing in common to name the run by.
    """
    if given := environment.get(RUN_ID):
        return _safe(given)
    elastic = environment.get("TORCHELASTIC_RUN_ID", "none")
    if elastic not in ("", "none"):  # torchrun's default id is the word none
        return _safe(elastic)
    if slurm_task(environment):
        return _safe(f"{environment.get('SLURM_JOB_ID', 'slurm')}-{environment['SLURM_STEP_ID']}")
    if started_outside(environment):
        machines = environment.get("GROUP_WORLD_SIZE") or environment.get("CROSS_SIZE") or "1"
        if machines != "1":
            raise UserError(
                "The ranks on several machines share no run id",
                remedy=f"torchrun --rdzv-id=<name> …, or export {RUN_ID}=<name> on each machine",
            )
        return _launcher_id(os.getppid())
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _launcher_id(process: int) -> str:
    """Name a launcher by its start and its process id, which all its children see alike."""
    try:
        ticks = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
        boot = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
    except OSError:
        boot = None
    if boot is None:
        raise UserError(
            "These ranks share no run id", remedy=f"export {RUN_ID}=<name> before the launcher"
        )
    started = time.localtime(int(boot[1]) + ticks // os.sysconf("SC_CLK_TCK"))
    return f"{time.strftime('%Y%m%d-%H%M%S', started)}-{process}"


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def refuse_own_ranks(trainer: Mapping[str, Any]) -> None:
    """Refuse a sweep whose trainer starts its own ranks.

    Lightning starts a rank by repeating the command line, so each would sweep by itself.

    Raises:
        UserError: The trainer wants several devices and no launcher made the ranks.
    """
    strategy = trainer.get("strategy", "auto")
    in_process = isinstance(strategy, str) and re.search("spawn|fork|notebook", strategy)
    if started_outside() or in_process or _devices(trainer) * int(trainer.get("num_nodes", 1)) == 1:
        return
    raise UserError(
        "A sweep (-m) cannot start ranks by itself: each rank would repeat the whole sweep",
        remedy="torchrun --nproc-per-node=N train.py -m …, trainer.devices=1, or "
        "hparams_search=…, which runs each trial in a process of its own",
    )


def _devices(trainer: Mapping[str, Any]) -> int:
    """How many devices of one machine the trainer will use."""
    devices = trainer.get("devices", "auto")
    if isinstance(devices, str) and devices not in ("auto", "-1"):
        devices = [part for part in devices.split(",") if part] if "," in devices else int(devices)
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    if devices not in ("auto", "-1", -1):
        return int(devices)
    if trainer.get("accelerator") == "cpu":
        return 1
    import torch

    return max(torch.cuda.device_count(), 1)


def leave_group() -> None:
    """Close the process group, if there is one, while the interpreter is still whole.

    Its threads may hold the last reference to a tensor. Dropping that takes the interpreter's
    lock, and a thread that asks for it while Python shuts down aborts the process.
    """
    torch = sys.modules.get("torch")
    if (
        torch is not None
        and torch.distributed.is_available()
        and torch.distributed.is_initialized()
    ):
        gc.collect()  # modules wrapped by DDP hold the group too, in cycles
        torch.distributed.destroy_process_group()
