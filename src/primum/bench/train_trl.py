"""One timed run of TRL's side of `primum bench train`."""

import sys
import tempfile
from typing import Any

from primum.bench.training import StepClock, read_job
from primum.training.sampling import ResumableBatchSampler


def main() -> None:
    """Train on the work folder's rows and print tokens a second."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    job, rows = read_job(sys.argv)
    clock = StepClock(job.warmup)
    counted: list[int] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step_done(counted.pop())

    class Counting(SFTTrainer):  # the batch is not in reach of a callback
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            counted.append(int(inputs["attention_mask"].sum()))
            return super().training_step(model, inputs, *rest)

    same_batches = ResumableBatchSampler(len(rows), job.batch_size).deal(epoch=0)
    ordered = [rows[index] for batch in same_batches for index in batch]
    split = [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in ordered]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, max_steps=job.steps, per_device_train_batch_size=job.batch_size,
            learning_rate=1e-4, weight_decay=0.0, max_grad_norm=1.0, lr_scheduler_type="cosine",
            warmup_steps=max(1, job.steps // 10), gradient_checkpointing=False,
            train_sampling_strategy="sequential", report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, bf16=False, fp16=False,
            use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=False, max_length=None,
        )  # fmt: skip
        trainer = Counting(
            model=AutoModelForCausalLM.from_pretrained(job.model, dtype=job.dtype),
            args=arguments,
            train_dataset=Dataset.from_list(split),
            processing_class=AutoTokenizer.from_pretrained(job.model),
            peft_config=LoraConfig(
                r=job.rank, lora_alpha=2 * job.rank, lora_dropout=0.0, target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    clock.report()


if __name__ == "__main__":
    main()
