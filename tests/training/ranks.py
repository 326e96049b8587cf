"""Real processes that start in milliseconds, forked from a server that has imported Lightning."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOADED = ["lightning.pytorch", "tests.training.run"]
processes = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Let the server import these too; call it where a test file is imported."""
    PRELOADED.extend(modules)
    processes.set_forkserver_preload(PRELOADED)


preload()


def run(
    function: Callable[..., None], *arguments: Any, ranks: int = 1, folder: Path, timeout: int = 180
) -> list[int]:
    """Call `function(*arguments)` in that many processes that know their rank; exit codes by rank.

    What they print lands in `folder/rank<k>.txt`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(ranks):
        given = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
        if ranks > 1:
            given |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
            given |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        log = folder / f"rank{rank}.txt"
        process = processes.Process(target=called, args=(function, arguments, given, log))
        process.start()
        started.append(process)
    for process in started:
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
        with suppress(ProcessLookupError):  # data workers whose parent was killed as they started
            os.killpg(process.pid, signal.SIGKILL)
    return [process.exitcode for process in started]


def called(
    function: Callable[..., None], arguments: tuple, given: dict[str, str], log: Path
) -> None:
    """Set the scene in the child process, then call."""
    os.setsid()  # with its workers a group of its own
    os.environ.update(given)
    multiprocessing.set_start_method("fork", force=True)  # for data loaders, as in a plain script
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    import torch

    torch.set_num_threads(1)
    function(*arguments)


def printed(folder: Path) -> str:
    """All that the processes printed, for the message of a failed assertion."""
    logs = sorted(folder.glob("*.txt"))
    return "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in logs)
