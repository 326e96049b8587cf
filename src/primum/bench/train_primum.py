"""One timed run of our side of `primum bench train`."""

import sys
from functools import partial
from typing import Any

from primum.bench.training import StepClock, read_job


def main() -> None:
    """Train on the work folder's rows and print tokens a second."""
    import lightning
    import torch

    from primum.alignment.conversations import ConversationData
    from primum.alignment.sft import SFTModule
    from primum.language.formats import Conversation
    from primum.language.lora import Lora
    from primum.language.source import Source

    job, rows = read_job(sys.argv)
    clock = StepClock(job.warmup)

    class Clock(lightning.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, _: Any, batch: Any, __: int
        ) -> None:
            clock.step_done(module.tokens_in(batch))

    conversations = [
        Conversation(
            id=str(row), messages=tuple(messages), rejected=None, file="", row=row, extra={}
        )
        for row, messages in enumerate(rows)
    ]
    source = Source(job.model, dtype=job.dtype)
    data = ConversationData(
        source, train=lambda: conversations, batch_size=job.batch_size, group_by_length=False
    )
    module = SFTModule(
        source,
        optimizer=partial(torch.optim.AdamW, lr=1e-4, weight_decay=0.0),
        adapter=Lora(rank=job.rank, alpha=2 * job.rank),
    )
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Clock()], gradient_clip_val=1.0, devices=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    clock.report()


if __name__ == "__main__":
    main()
