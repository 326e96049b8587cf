"""Reads without a model: a scripted target writes a page's own text, drafted by its text layer."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from primum.parsing.jobs.inputs import find_pages
from primum.parsing.jobs.job import Job
from primum.parsing.jobs.output import Output
from primum.parsing.jobs.reading import Limits, Reading
from primum.parsing.regions import Region
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.scripted import ScriptedTarget
from primum.parsing.speculation.speculator import Speculator

END = 0


class Scripted:
    """What it writes is what the regions say, and a little more.

    Args:
        pause: Seconds a page takes beside that.
        log: A line is appended when a page begins.
        poison: Pages of this width cannot be read.
    """

    def __init__(self, pause: float = 0.0, log: Path | None = None, poison: int = -1) -> None:
        self.pause, self.log, self.poison = pause, log, poison
        self.speculator = Speculator([RegionMatch(), OwnOutput()], depth=32)

    def identity(self) -> dict[str, Any]:
        return {"name": "scripted"}

    def read(
        self, image: Any, regions: list[Region], limits: Limits, drafting: float = 0.0
    ) -> Reading:
        if image.width == self.poison:
            raise MemoryError("a poisoned page")
        pieces = [region.text for region in regions if region.text]
        text = "\n\n".join(pieces) + "."
        if self.log is not None:
            with self.log.open("a") as stream:
                stream.write(f"{text[:20]!r}\n")
        time.sleep(self.pause)
        encode = lambda said: [ord(letter) for letter in said]  # noqa: E731
        target = ScriptedTarget([*encode(text), END], vocabulary=128)
        self.speculator.start([Draft.of(pieces, encode)])
        forwards, accepted = 0, 0
        while not target.output or target.output[-1] != END:
            tree = self.speculator.propose(room=limits.tokens - len(target.output))
            nodes, tokens = target.step(tree, frozenset([END]))
            self.speculator.push(tokens, len(tree) - 1, 1e-3)
            forwards, accepted = forwards + 1, accepted + len(nodes) - 1
        return Reading(text, len(target.output), forwards, accepted)


def resident(process: int | str = "self") -> float:
    """Memory of a process in MiB; 0 of one that has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """INPUT OUT LOG PAUSE: one run of a job, to be killed."""
    source, out, log, pause = sys.argv[1:]
    job = Job(Scripted(float(pause), Path(log)), Output(Path(out)), drafts="text", dpi=36)
    job.run(list(find_pages(source)))


if __name__ == "__main__":
    main()
