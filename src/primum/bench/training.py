"""`primum bench train`: our fine-tuning against TRL's SFTTrainer and DPOTrainer.

Same model, rows, order, batches, LoRA, dtype, attention, threads and optimizer; with bf16 weights
TRL runs under autocast, as it does by default; gradient checkpointing off on both sides; for DPO
the reference's log-probabilities are computed before the clock runs, on both sides. Counted are
unpadded tokens a second over the steps after the warm-up, and the peak memory of the process (CPU)
or of the device (CUDA). Both sides say how many tokens each of their steps held and learned; unless
these are equal, there is no result.
"""

import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from primum.bench.pairs import Ratio, in_turn, paired_ratio
from primum.errors import UserError
from primum.extras import require
from primum.language.formats import Conversation

SIDES = {"primum": "primum.bench.train_primum", "trl": "primum.bench.train_trl"}
AT_LEAST = {"sft": 1.0, "dpo": 1.1}

# ChatML whose last turn ends with its end-of-turn token: TRL would also learn a line break after it
TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}
    {%- if not loop.last or message.role != 'assistant' %}{{- '\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""


@dataclass(frozen=True)
class Job:
    """What both sides train: read from `job.json` in the work folder."""

    objective: str
    model: str
    dtype: str
    steps: int
    warmup: int
    batch_size: int
    rank: int
    threads: int
    packing: int | None = None
    shape: str | None = None
    trl_autocast: bool = True  # TRL's own default for bf16; ours multiplies adapters in bf16 itself


class StepClock:
    """Times of optimizer steps, and what they held; the device is drained before each reading."""

    def __init__(self, warmup: int) -> None:
        self.warmup, self.started = warmup, 0.0
        self.tokens: list[int] = []
        self.learned: list[int] = []

    def step_done(self, tokens: int, learned: int) -> None:
        """Count one finished step of so many unpadded tokens, of which some were learned."""
        self.tokens.append(tokens)
        self.learned.append(learned)
        if len(self.tokens) == self.warmup:
            self.started = self.now()

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
        result = {
            "tokens_per_second": sum(self.tokens[self.warmup :]) / seconds,
            "peak_gib": peak,
            "tokens": self.tokens,
            "learned": self.learned,
        }
        print(json.dumps(result), flush=True)


def run(arguments: Any) -> int:
    """Measure, print a table, and optionally write the figures."""
    require("trl", "peers")
    import torch

    from primum.language.source import Source

    threads = arguments.threads or torch.get_num_threads()
    job = Job(
        arguments.objective, Source(arguments.model).locate(), arguments.dtype, arguments.steps,
        arguments.warmup, arguments.batch_size, arguments.rank, threads, arguments.packing,
        arguments.shape, arguments.trl_autocast,
    )  # fmt: skip
    if job.packing and job.objective != "sft":
        raise UserError("TRL packs in supervised fine-tuning alone", remedy="leave --packing out")
    rows = drawn_out(twins(job.objective), arguments.length)
    needed = len(rows) if job.packing else job.batch_size * job.steps
    if needed > len(rows):
        raise UserError(
            f"{job.steps} steps of {job.batch_size} need {needed} rows, there are {len(rows)}",
            remedy="fewer --steps or a smaller --batch-size",
        )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "job.json").write_text(json.dumps(asdict(job)))
        (work / "template.jinja").write_text(TEMPLATE)
        (work / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows[:needed]))
        environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        results = in_turn(SIDES, work, arguments.pairs, environment)
    equal = same_work(results, packed=bool(job.packing))

    def ratio(key: str) -> Ratio:
        ours, theirs = ([one[key] for one in results[side]] for side in SIDES)
        return paired_ratio(ours, theirs)

    speed, memory = ratio("tokens_per_second"), ratio("peak_gib")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    packages = ("torch", "transformers", "peft", "trl", "lightning")
    figures = {
        "speed_ratio": asdict(speed),
        "memory_ratio": asdict(memory),
        "work": equal,
        "device": f"{device or platform.machine()}, {threads} threads",
        "versions": {package: version(package) for package in packages},
        "job": asdict(job) | {"model": arguments.model},
        "runs": results,
        "command": "primum " + " ".join(sys.argv[1:]),
    }
    print(f"{job.objective}: tokens/s, primum / trl:     {speed}")
    print(f"{job.objective}: peak memory, primum / trl:  {memory}")
    print(
        f"work, equal on both sides: {equal['tokens']} unpadded tokens, {equal['learned']} learned"
    )
    print(f"{figures['device']}; {figures['versions']}")
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(figures, indent=2) + "\n")
    at_least = AT_LEAST[job.objective] if arguments.at_least is None else arguments.at_least
    return 1 if speed.low < at_least or memory.value > arguments.memory_at_most else 0


def same_work(results: dict[str, list[dict[str, Any]]], packed: bool = False) -> dict[str, int]:
    """How many tokens each run held and learned, if all held the same.

    Step by step; where rows were packed, which each side does in its own way, in sum.

    Raises:
        UserError: The sides did not do the same work.
    """
    done: dict[str, int] = {}
    for name in ("tokens", "learned"):
        counts = {
            (sum(one[name]),) if packed else tuple(one[name])
            for runs in results.values()
            for one in runs
        }
        if len(counts) > 1:
            told = "; ".join(f"{side} {sum(runs[0][name])}" for side, runs in results.items())
            raise UserError(
                f"The sides did not do the same work ({name}: {told}), so there is no comparison",
                remedy="choose a model whose chat template ends with its end-of-turn token",
            )
        done[name] = sum(counts.pop())
    return done


def twins(objective: str) -> list[dict[str, Any]]:
    """The training twins as rows: messages, and for DPO the rejected answer."""
    from primum.alignment.twin_views import preferences

    return [
        {"messages": list(one.messages)}
        | ({"rejected": list(one.rejected or ())} if objective == "dpo" else {})
        for one in preferences("train")
    ]


def drawn_out(rows: Sequence[dict[str, Any]], length: int | None) -> list[dict[str, Any]]:
    """Rows whose answers go on with other rows' until a text has about so many tokens."""
    if length is None:
        return list(rows)
    words = int(length / 1.3)  # a word of these texts has 1.3 tokens
    tail = " ".join(row["messages"][-1]["content"] for row in rows).split()

    def longer(turns: list[dict[str, str]], at: int, used: int) -> list[dict[str, str]]:
        last = turns[-1]["content"].split()
        more = [tail[(at * 37 + k) % len(tail)] for k in range(max(0, words - used - len(last)))]
        return [*turns[:-1], {**turns[-1], "content": " ".join(last + more)}]

    result = []
    for at, row in enumerate(rows):
        used = len(row["messages"][0]["content"].split())
        result.append({name: longer(turns, at, used)
                       for name, turns in row.items()})  # fmt: skip
    return result


def read_job(argv: list[str]) -> tuple[Job, list[Conversation], str]:
    """The job, the rows and the chat template's file of a work folder, in a child process."""
    import torch

    work = Path(argv[1])
    job = Job(**json.loads((work / "job.json").read_text()))
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    rows = [json.loads(line) for line in (work / "rows.jsonl").read_text().splitlines()]
    conversations = [
        Conversation(
            id=str(number),
            messages=tuple(row["messages"]),
            rejected=tuple(row["rejected"]) if "rejected" in row else None,
            file="",
            row=number,
        )
        for number, row in enumerate(rows, 1)
    ]
    return job, conversations, str(work / "template.jinja")


def random_model(job: Job) -> Any:
    """Weights of a published shape, drawn on the device they are trained on."""
    import torch
    from transformers import AutoModelForCausalLM

    from primum.alignment.memory import shape

    assert job.shape is not None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            shape(job.shape), dtype=getattr(torch, job.dtype), attn_implementation="sdpa"
        )
