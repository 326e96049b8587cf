"""Drafting ahead in worker processes, so that the target never waits for a page's draft.

A worker that crashes or takes too long is replaced, and its page goes on without a draft.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from primum.parsing.drafters.drafter import Drafter
from primum.parsing.regions import Region

Make = Callable[[], Drafter]


@dataclass(frozen=True)
class Drafted:
    """A page's draft.

    Args:
        regions: Empty where there is a problem.
        seconds: What drafting took.
        problem: Why there is no draft; empty where there is one.
    """

    regions: tuple[Region, ...]
    seconds: float = 0.0
    problem: str = ""


class _Worker:
    def __init__(self, make: Make) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(make, child), daemon=True)
        self.process.start()
        child.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(make: Make, pipe: Connection) -> None:
    drafter = None
    while True:
        try:
            image = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        began = monotonic()
        try:
            drafter = drafter or make()
            regions = tuple(drafter(image() if callable(image) else image))
            drafted = Drafted(regions, monotonic() - began)
        except Exception as error:
            drafted = Drafted((), monotonic() - began, f"{type(error).__name__}: {error}")
        try:
            pipe.send(drafted)
        except BrokenPipeError:  # whoever asked was killed
            return


def ahead(
    make: Make, images: Iterable[Any], workers: int = 1, timeout: float = 120.0
) -> Iterator[Drafted]:
    """Drafts in the order of the images, made while earlier ones are being used.

    Args:
        make: Builds the drafter, in the worker; must be picklable.
        images: PIL images, or picklable functions that load one in the worker.
        workers: Processes. Each has one page in hand and no more, so memory stays bounded.
        timeout: Seconds a page may take, the worker's start included.
    """
    source = iter(images)
    idle = [_Worker(make) for _ in range(workers)]
    busy: deque[tuple[_Worker, float]] = deque()
    try:
        while True:
            while idle:
                image = next(source, None)
                if image is None:
                    break
                worker = idle.pop()
                worker.pipe.send(image)
                busy.append((worker, monotonic()))
            if not busy:
                return
            worker, since = busy.popleft()
            drafted, worker = _await(worker, since + timeout - monotonic(), make)
            idle.append(worker)
            yield drafted
    finally:
        for worker in [*idle, *(worker for worker, _ in busy)]:
            worker.stop()


def _await(worker: _Worker, left: float, make: Make) -> tuple[Drafted, _Worker]:
    """A worker's answer, and a worker for the next page: a new one where the old one is lost."""
    try:
        if worker.pipe.poll(max(0.0, left)):
            return worker.pipe.recv(), worker
        problem = "drafting took too long"
    except (EOFError, OSError):
        problem = "the drafting process died"
    worker.stop()
    return Drafted((), 0.0, problem), _Worker(make)
