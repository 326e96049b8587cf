"""`primum bench train`: our supervised fine-tuning against TRL's SFTTrainer.

Same model, rows, order, batches, padding, LoRA, dtype, attention, threads and optimizer, gradient
checkpointing off on both sides. Counted are unpadded tokens a second over the steps after the
warm-up, and the peak memory of the process (CPU) or of the device (CUDA).
"""

import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from primum.bench.pairs import Ratio, in_turn, paired_ratio
from primum.errors import UserError
from primum.extras import require

SIDES = {"primum": "primum.bench.train_primum", "trl": "primum.bench.train_trl"}


@dataclass(frozen=True)
class Job:
    """What both sides train: read from `job.json` in the work folder."""

    model: str
    dtype: str
    steps: int
    warmup: int
    batch_size: int
    rank: int
    threads: int


class StepClock:
    """Times of optimizer steps; the device is drained before each reading."""

    def __init__(self, warmup: int) -> None:
        self.warmup, self.seen, self.tokens, self.started = warmup, 0, 0, 0.0

    def step_done(self, tokens: int) -> None:
        """Count one finished step of so many unpadded tokens."""
        self.seen += 1
        if self.seen == self.warmup:
            self.started = self.now()
        elif self.seen > self.warmup:
            self.tokens += tokens

    def now(self) -> float:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def report(self) -> None:
        """Print the child's one JSON line."""
        import resource

        import torch

        seconds = self.now() - self.started
        peak = (
            torch.cuda.max_memory_allocated() / 2**30
            if torch.cuda.is_available()
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        )
        result = {"tokens_per_second": self.tokens / seconds, "peak_gib": peak}
        print(json.dumps(result), flush=True)


def run(arguments: Any) -> int:
    """Measure, print a table, and optionally write the figures."""
    require("trl", "peers")
    import torch

    from primum.alignment.twins import conversations
    from primum.language.source import Source

    threads = arguments.threads or torch.get_num_threads()
    job = Job(
        Source(arguments.model).locate(), arguments.dtype, arguments.steps, arguments.warmup,
        arguments.batch_size, arguments.rank, threads,
    )  # fmt: skip
    rows = [list(one.messages) for one in conversations("train")]
    needed = job.batch_size * job.steps
    if needed > len(rows):
        raise UserError(
            f"{job.steps} steps of {job.batch_size} need {needed} rows, there are {len(rows)}",
            remedy="fewer --steps or a smaller --batch-size",
        )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "job.json").write_text(json.dumps(asdict(job)))
        lines = (json.dumps({"messages": messages}) for messages in rows[:needed])
        (work / "rows.jsonl").write_text("\n".join(lines))
        environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        results = in_turn(SIDES, work, arguments.pairs, environment)

    def ratio(key: str) -> Ratio:
        ours, theirs = ([one[key] for one in results[side]] for side in SIDES)
        return paired_ratio(ours, theirs)

    speed, memory = ratio("tokens_per_second"), ratio("peak_gib")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    packages = ("torch", "transformers", "peft", "trl", "lightning")
    figures = {
        "speed_ratio": asdict(speed),
        "memory_ratio": asdict(memory),
        "device": f"{device or platform.machine()}, {threads} threads",
        "versions": {package: version(package) for package in packages},
        "job": asdict(job) | {"model": arguments.model},
        "runs": results,
        "command": "primum " + " ".join(sys.argv[1:]),
    }
    print(f"tokens/s, primum / trl:     {speed}")
    print(f"peak memory, primum / trl:  {memory}")
    print(f"{figures['device']}; {figures['versions']}")
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(figures, indent=2) + "\n")
    slower = speed.low < arguments.at_least or memory.value > arguments.memory_at_most
    return 1 if slower else 0


def read_job(argv: list[str]) -> tuple[Job, list[list[dict[str, str]]]]:
    """The job and the rows of a work folder, in a child process."""
    import torch

    work = Path(argv[1])
    job = Job(**json.loads((work / "job.json").read_text()))
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    lines = (work / "rows.jsonl").read_text().splitlines()
    return job, [json.loads(line)["messages"] for line in lines]
