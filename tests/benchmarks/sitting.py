"""Sits the quick safety benchmark as a process of its own: MODEL TWINS OUTPUT DEVICES [DELAY]."""

import sys
import time
from collections.abc import Sequence

from lightning import Trainer

from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.cases import Case
from primum.benchmarks.results import Result
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.safety_quick import SafetyQuick
from primum.judges.refusal_rules import RefusalRules


class Slow(SafetyQuick):
    """Leaves a test the time to kill it between two batches."""

    delay = 0.0

    def results(self, cases: Sequence[Case]) -> list[Result]:
        time.sleep(self.delay)
        return super().results(cases)


def main(model: str, twins: str, output: str, devices: str, delay: str = "0") -> None:
    benchmark = Slow(RefusalRules(), twins=twins, labels=None, max_new_tokens=8, batch_size=3)
    benchmark.delay = float(delay)
    trainer = Trainer(
        accelerator="cpu", devices=int(devices), strategy="ddp" if int(devices) > 1 else "auto",
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    candidate = resolve_candidate(checkpoint=model, dtype="float32")
    run_benchmark(benchmark, candidate, trainer, output=output, quiet=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
