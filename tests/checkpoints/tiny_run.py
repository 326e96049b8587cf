"""A real run: a tiny model that learned to answer the golden prompts, and to stop."""

import functools

import torch
from lightning import Trainer, seed_everything
from torch.utils.data import DataLoader, Dataset

from primum.alignment.sft import SFTModule
from primum.checkpoints.export import leave_run
from primum.checkpoints.golden import PROMPTS
from primum.checkpoints.tiny import make_tiny
from primum.language.lora import Lora
from primum.language.source import Source

ANSWERS = ("ready", "42", "Wash it.", "Ada", "No. Consent comes first.", "I have a fever.")
ADAM = functools.partial(torch.optim.Adam, lr=2e-2)
CARD = {
    "title": "tiny",
    "licence": "Apache-2.0",
    "data": "golden prompts",
    "intended_use": "tests",
    "not_for": "any clinical purpose",
}


class OneBatch(Dataset):
    """The golden prompts with short answers; loss on the answers and their end-of-turn token."""

    def __init__(self, tokenizer):
        rows = []
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
            text = tokenizer.apply_chat_template(
                list(prompt), tokenize=False, add_generation_prompt=True
            )
            asked = tokenizer(text, add_special_tokens=False).input_ids
            said = tokenizer(answer, add_special_tokens=False).input_ids
            said = [*said, tokenizer.eos_token_id]
            rows.append((asked + said, [-100] * len(asked) + said))
        longest = max(len(ids) for ids, _ in rows)
        padded = [
            (ids + [tokenizer.pad_token_id] * (longest - len(ids)), labels, len(ids))
            for ids, labels in rows
        ]
        labels = torch.tensor([labels + [-100] * (longest - n) for _, labels, n in padded])
        self.batch = {
            "input_ids": torch.tensor([ids for ids, _, _ in padded]),
            "attention_mask": torch.tensor([[1] * n + [0] * (longest - n) for _, _, n in padded]),
            "labels": labels,
        }

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return dict(self.batch)


class Talker(SFTModule):
    """What is left behind is under test here, and not how it was learned."""

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def configure_optimizers(self):
        return self.build_optimizer([one for one in self.parameters() if one.requires_grad])


def make_run(
    folder,
    architecture="qwen3",
    *,
    adapter=True,
    epochs=80,
    optimizer=ADAM,
    accelerator="cpu",
    strategy="auto",
    devices=1,
    run="run",
):
    """Train, leave a run directory, and return it; every rank calls it."""
    base = folder / "base"
    if not base.exists():
        make_tiny(base, architecture)
    source = Source(str(base), dtype="float32")
    seed_everything(0, verbose=False)  # adapters start at random
    module = Talker(source, optimizer, Lora(rank=8, alpha=32) if adapter else None)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(OneBatch(module.tokenizer), batch_size=None))
    config = {
        "_target_": "primum.alignment.sft.SFTModule",
        "model": {"_target_": "primum.language.source.Source", "name": str(base)},
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 2e-2},
    }
    if adapter:
        config["adapter"] = {"_target_": "primum.language.lora.Lora", "rank": 8, "alpha": 32}
    run = folder / run
    leave_run(
        trainer,
        module,
        config,
        name="alignment/tiny",
        run_id="run",
        folder=run,
        data_fingerprints=[{"name": "golden", "split": "train", "rows": 6, "sha256": "0" * 64}],
        card=CARD,
        metrics={"train/loss": torch.tensor(0.5)},
    )
    return run
