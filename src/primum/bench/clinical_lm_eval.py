"""One timed run of lm-evaluation-harness' side of `primum bench clinical`."""

import json
import os
import sys
import time
from pathlib import Path

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{file}"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{target}}}}"
metric_list:
  - metric: acc
"""


def main() -> None:
    """Write the questions as tasks, sit them, and print the seconds and every log-probability."""
    work = Path(sys.argv[1])
    job = json.loads((work / "job.json").read_text())
    os.environ.setdefault("TRUST_REMOTE_CODE", "0")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from primum.benchmarks.clinical_qa import ClinicalQA

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    names: dict[str, list[str]] = {}
    folder = work / "tasks"
    folder.mkdir(exist_ok=True)
    benchmark = ClinicalQA(job["sets"], mode=job["mode"], limit=job["items"])
    for name in job["sets"]:
        cases = [case for case in benchmark.cases if case.tags["set"] == name]
        rows = [
            {
                "text": case.messages[-1]["content"],
                "choices": case.reference["continuations"],
                "target": list(case.reference["options"]).index(case.reference["answer"][0]),
            }
            for case in cases
        ]
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(TASK.format(name=f"exam_{name}", file=file))
        names[f"exam_{name}"] = [case.id for case in cases]
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=getattr(torch, job["dtype"])
    ).eval()
    tasks = TaskManager(include_path=str(folder))
    size = job["batch_sizes"]["lm_eval"]
    started = time.perf_counter()
    found = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size),
        tasks=list(names),
        task_manager=tasks,
        bootstrap_iters=0,
        log_samples=True,
    )
    seconds = time.perf_counter() - started
    logprobs = {
        names[task][sample["doc_id"]]: [float(one[0]) for one in sample["filtered_resps"]]
        for task, samples in found["samples"].items()
        for sample in samples
    }
    result = {
        "seconds": seconds,
        "questions_per_second": len(logprobs) / seconds,
        "logprobs": logprobs,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
