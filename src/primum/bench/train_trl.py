"""One timed run of TRL's side of `primum bench train`."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from primum.bench.training import StepClock, random_model, read_job
from primum.training.sampling import ResumableBatchSampler


def main() -> None:
    """Train on the work folder's rows and print tokens a second."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    job, rows, template = read_job(sys.argv)
    clock = StepClock(job.warmup)
    counted: list[tuple[int, int]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step_done(*counted.pop())

    def count(inputs: Any) -> None:  # the batch is not in reach of a callback
        mask = inputs.get("attention_mask")
        tokens = inputs["input_ids"].numel() if mask is None else int(mask.sum())
        if "completion_mask" in inputs:
            learned = int(inputs["completion_mask"][:, 1:].sum())
        else:
            learned = int((inputs["labels"][:, 1:] != -100).sum())
        counted.append((tokens, learned))

    class CountingSFT(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            count(inputs)
            return super().training_step(model, inputs, *rest)

    class CountingDPO(DPOTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            count(inputs)
            return super().training_step(model, inputs, *rest)

    ordered = rows
    if not job.packing:
        same_batches = ResumableBatchSampler(len(rows), job.batch_size).deal(epoch=0)
        ordered = [rows[index] for batch in same_batches for index in batch]
    steps = {"num_train_epochs": 1} if job.packing else {"max_steps": job.steps}
    with tempfile.TemporaryDirectory() as folder:
        shared: dict[str, Any] = {
            "output_dir": folder, "per_device_train_batch_size": job.batch_size,
            "learning_rate": 1e-4, "weight_decay": 0.0, "max_grad_norm": 1.0,
            "lr_scheduler_type": "cosine", "warmup_steps": max(1, job.steps // 10),
            "gradient_checkpointing": False, "train_sampling_strategy": "sequential",
            "report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
            "bf16": job.dtype == "bfloat16" and job.trl_autocast, "fp16": False,
            "use_cpu": not torch.cuda.is_available(), "dataloader_pin_memory": False, **steps,
        }  # fmt: skip
        if job.shape is None:
            model = AutoModelForCausalLM.from_pretrained(job.model, dtype=job.dtype)
        else:
            model = random_model(job)
        tokenizer = AutoTokenizer.from_pretrained(job.model)
        tokenizer.chat_template = Path(template).read_text()
        parts: dict[str, Any] = {
            "model": model,
            "processing_class": tokenizer,
            "peft_config": LoraConfig(
                r=job.rank, lora_alpha=2 * job.rank, lora_dropout=0.0, target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            "callbacks": [Clock()],
        }  # fmt: skip
        trainer: Any
        if job.objective == "dpo":
            split = [
                {"prompt": list(one.messages[:-1]), "chosen": list(one.messages[-1:]),
                 "rejected": list(one.rejected or ())}
                for one in ordered
            ]  # fmt: skip
            trainer = CountingDPO(
                args=DPOConfig(**shared, max_length=None, precompute_ref_log_probs=True),
                train_dataset=Dataset.from_list(split), **parts,
            )  # fmt: skip
        else:
            split = [
                {"prompt": list(one.messages[:-1]), "completion": list(one.messages[-1:])}
                for one in ordered
            ]
            trainer = CountingSFT(
                args=SFTConfig(**shared, max_length=job.packing, packing=bool(job.packing)),
                train_dataset=Dataset.from_list(split), **parts,
            )  # fmt: skip
        trainer.train()
    clock.report()


if __name__ == "__main__":
    main()
