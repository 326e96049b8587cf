"""One timed run of our side of `primum bench clinical`."""

import json
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Sit the exam, report included, and print the seconds and every log-probability."""
    import torch

    from primum.benchmarks.candidates import resolve_candidate
    from primum.benchmarks.clinical_qa import ClinicalQA
    from primum.benchmarks.language_model import LanguageModel
    from primum.benchmarks.run import run_benchmark

    job = json.loads((Path(sys.argv[1]) / "job.json").read_text())
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    candidate = resolve_candidate(checkpoint=job["model"], dtype=job["dtype"])
    assert isinstance(candidate.subject, LanguageModel)
    candidate.subject.load()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        benchmark = ClinicalQA(
            job["sets"],
            mode=job["mode"],
            limit=job["items"],
            batch_size=job["batch_sizes"]["primum"],
        )
        found = run_benchmark(benchmark, candidate, output=folder, quiet=True)
        seconds = time.perf_counter() - started
        from primum.benchmarks.results import read_parquet

        rows = read_parquet(found.folder / "results.parquet")
    logprobs = {row.case: row.record["logprobs"] for row in rows}
    result = {
        "seconds": seconds,
        "questions_per_second": len(rows) / seconds,
        "logprobs": logprobs,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
