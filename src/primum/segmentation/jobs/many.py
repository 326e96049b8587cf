"""A job on one device or on several, with one progress bar."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from primum.errors import UserError
from primum.files import atomic_write
from primum.jobs.shards import Shard, divided
from primum.segmentation.jobs.index import Entry, Status
from primum.segmentation.jobs.inputs import Picture


@dataclass(frozen=True)
class Plan:
    """What each process needs to know.

    Attributes:
        uniap: Arguments of `UniAP`, its device left out.
        folder: Of the output.
        maps: Write label maps.
        device: None takes a GPU if there is one.
        again: Statuses of pictures that are segmented once more.
    """

    uniap: dict[str, Any]
    folder: Path
    maps: bool = True
    device: str | None = None
    again: tuple[Status, ...] = ()


def run_many(
    plan: Plan, pictures: Sequence[Picture], shard: Shard, devices: int, console: Any
) -> list[Entry]:
    """Segment a shard's pictures on so many devices; their entries, in any order.

    Raises:
        UserError: The folder holds the output of other settings, or a process ended early.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    mine = len(pictures[shard[0] :: shard[1]])
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[masks]} masks"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    masks = 0
    with Progress(*columns, transient=True, console=console) as progress:
        bar = progress.add_task("pictures", total=mine, masks=0)

        def tell(entry: Entry) -> None:
            nonlocal masks
            masks += entry.regions
            progress.update(bar, advance=1, masks=masks)
            if entry.status != "ok":
                progress.console.print(
                    f"{entry.name}: {entry.status}: {entry.reason}", markup=False
                )

        def say(line: str) -> None:
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        if devices == 1:
            return segment(plan, pictures, shard, tell, say)
        return in_processes(plan, pictures, divided(shard, devices), tell, say)


def segment(
    plan: Plan,
    pictures: Sequence[Picture],
    shard: Shard,
    tell: Callable[[Entry], None],
    say: Callable[[str], None],
) -> list[Entry]:
    """Segment a shard in this process."""
    from primum.segmentation.jobs.job import Job
    from primum.segmentation.uniap import UniAP

    uniap = UniAP(**plan.uniap, device=plan.device)
    say(uniap.told())
    keep_settings(plan.folder, uniap, plan.maps)
    return Job(uniap, plan.folder, shard, plan.maps).run(pictures, plan.again, tell)


def keep_settings(folder: Path, uniap: Any, maps: bool) -> None:
    """Write what the folder's masks depend on, once.

    Raises:
        UserError: They depend on something else than this job's would.
    """
    made = uniap.backbone
    thresholds = uniap.options.get("thresholds", (0.8, 0.7, 0.6, 0.5, 0.4))
    told = {
        "backbone": made.name, "weights": made.label, "preset": uniap.preset,
        "levels": " ".join(f"{tau:g}" for tau in thresholds),
    }  # fmt: skip
    content = yaml.safe_dump(
        {"told": told, "identity": plain(uniap.identity()), "maps": maps}, sort_keys=False
    )
    path = folder / "settings.yaml"
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise UserError(
            "This folder holds masks of another backbone or other settings",
            file=path,
            remedy="choose another folder with -o, or remove this one",
        )
    if not path.exists():
        atomic_write(path, content)


def plain(value: Any) -> Any:
    """Mappings and tuples as YAML has them."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value


def in_processes(
    plan: Plan,
    pictures: Sequence[Picture],
    shards: Sequence[Shard],
    tell: Callable[[Entry], None],
    say: Callable[[str], None],
) -> list[Entry]:
    """A shard a process, each on its own GPU where there are GPUs."""
    import torch

    gpus = torch.cuda.device_count() if plan.device in (None, "cuda") else 0
    if gpus and gpus < len(shards):
        raise UserError(f"There are {gpus} GPUs here", remedy=f"--devices {gpus}")
    context = multiprocessing.get_context("spawn")
    heard: Any = context.Queue()
    workers = []
    for place, shard in enumerate(shards):
        own = replace(plan, device=f"cuda:{place}" if gpus else plan.device)
        worker = context.Process(
            target=work, args=(own, pictures, shard, heard, len(shards), place == 0), daemon=True
        )
        worker.start()
        workers.append(worker)
    entries: list[Entry] = []
    problems: list[UserError] = []
    try:
        while any(worker.is_alive() for worker in workers) or not heard.empty():
            try:
                found = heard.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(found, Entry):
                entries.append(found)
                tell(found)
            elif isinstance(found, tuple):
                problem, file, remedy = found
                problems.append(UserError(problem, file=file, remedy=remedy))
            else:
                say(str(found))
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    wanted = sum(len(pictures[number::count]) for number, count in shards)
    if problems:
        raise problems[0]
    if len(entries) < wanted:
        raise UserError(
            f"A process ended after {len(entries)} of {wanted} pictures",
            remedy="run the same command again: finished pictures are kept",
        )
    return entries


def work(
    plan: Plan,
    pictures: Sequence[Picture],
    shard: Shard,
    heard: Any,
    processes: int,
    first: bool,
) -> None:
    """What a process does; entries go back through the queue."""
    import os

    import torch

    if plan.device is None or not plan.device.startswith("cuda"):
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    try:
        segment(plan, pictures, shard, heard.put, heard.put if first else lambda line: None)
    except UserError as error:
        heard.put((error.problem, error.file, error.remedy))
    except KeyboardInterrupt:
        pass
