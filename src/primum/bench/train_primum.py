"""One timed run of our side of `primum bench train`."""

import sys
from functools import partial
from typing import Any

from primum.bench.training import StepClock, random_model, read_job


def main() -> None:
    """Train on the work folder's rows and print tokens a second."""
    import lightning
    import torch

    from primum.alignment.answers import PreferenceData
    from primum.alignment.conversations import ConversationData
    from primum.alignment.language_module import LanguageModule
    from primum.alignment.objectives.likelihood import learned_places
    from primum.alignment.preference import PreferenceModule
    from primum.alignment.sft import SFTModule
    from primum.language.lora import Lora
    from primum.language.source import Source

    job, rows, template = read_job(sys.argv)
    clock = StepClock(job.warmup)

    class Clock(lightning.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, _: Any, batch: Any, __: int
        ) -> None:
            clock.step_done(module.tokens_in(batch), len(learned_places(batch)[1]))

    if job.shape is not None:
        LanguageModule.load = lambda self: random_model(job)  # type: ignore[method-assign]
    source = Source(job.model, dtype=job.dtype, chat_template=template)
    options: dict[str, Any] = {
        "optimizer": partial(torch.optim.AdamW, lr=1e-4, weight_decay=0.0),
        "adapter": Lora(rank=job.rank, alpha=2 * job.rank),
    }
    module: Any
    data: Any
    if job.objective == "dpo":
        data = PreferenceData(
            source, lambda: rows, batch_size=job.batch_size, group_by_length=False, max_length=10**6
        )
        module = PreferenceModule(source, reference="cached", **options)
    else:
        data = ConversationData(
            source, lambda: rows, batch_size=job.batch_size, group_by_length=False,
            packing=job.packing, max_length=10**6,
        )  # fmt: skip
        module = SFTModule(source, **options)
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Clock()], gradient_clip_val=1.0, devices=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    clock.report()


if __name__ == "__main__":
    main()
