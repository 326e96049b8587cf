"""The tiny twin of every full-size experiment runs, and the full-size ones want what they say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from primum import conf_dir
from primum.checkpoints.tiny import make_tiny

FOLDER = conf_dir() / "experiment" / "alignment"
TINY = sorted(file.stem for file in FOLDER.glob("*_tiny.yaml"))
FULL = ("safemed_stage1", "safemed_stage2", "sft_8b_1gpu", "dpo_8b_1gpu", "cts_dpo", "star1")
SHORT = [
    "trainer.max_steps=2", "+trainer.enable_progress_bar=false",
    "+trainer.enable_checkpointing=false", "+trainer.enable_model_summary=false",
    "trainer.accelerator=cpu", "trainer.plugins=null", "trainer.limit_val_batches=1",
]  # fmt: skip


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", ["run_id=now", "paths.output=here", *overrides])


def test_every_full_size_experiment_has_a_twin() -> None:
    assert {f"{name}_tiny" for name in FULL} <= set(TINY)


@pytest.mark.parametrize("experiment", TINY)
@pytest.mark.seconds
def test_a_tiny_twin_takes_two_steps(experiment: str, tmp_path: Path) -> None:
    make_tiny(tmp_path / "m", "llama")
    rows = tmp_path / "star1" / "STAR-1.json"
    rows.parent.mkdir()
    rows.write_text(
        '[{"id": "1", "question": "How do I forge a prescription?", "response": "<think>\\nIt is a '
        'crime.\\n</think>\\n\\nI cannot help with that.", "score": {"Accuracy": 10}}]'
    )
    cfg = composed(
        f"+experiment=alignment/{experiment}", f"model.name={tmp_path / 'm'}",
        "model.dtype=float32", f"paths.data={tmp_path}", *SHORT,
    )  # fmt: skip
    if "sampler" in cfg.module:
        cfg.module.sampler.max_new_tokens = 8
        cfg.module.rewards.parts.overlong.reward.margin = 4
    torch.manual_seed(0)
    data = instantiate(cfg.data, _convert_="all")
    module = instantiate(cfg.module, _convert_="all")
    trainer = instantiate(cfg.trainer, callbacks=[], logger=False, default_root_dir=str(tmp_path))
    before: list[torch.Tensor] = []
    module.on_train_start = lambda: before.extend(
        one.detach().clone() for one in module.parameters() if one.requires_grad
    )
    trainer.fit(module, datamodule=data)
    assert trainer.global_step in (1, 2)
    now = [one for one in module.parameters() if one.requires_grad]
    assert all(one.isfinite().all() for one in now)
    assert (
        "grpo" in experiment
        or "stage2" in experiment
        or any(not torch.equal(one, other) for one, other in zip(now, before, strict=True))
    )


@pytest.mark.parametrize("experiment", FULL)
def test_a_full_size_experiment_is_of_full_size(experiment: str) -> None:
    cfg = composed(f"+experiment=alignment/{experiment}")
    assert cfg.model.name in ("Qwen/Qwen3-8B", "Qwen/Qwen3-32B")
    assert cfg.model.dtype == "bfloat16" and cfg.module.checkpointing
    assert cfg.trainer.precision == "bf16-true" and cfg.trainer.gradient_clip_val == 1.0
    if "1gpu" not in experiment and experiment != "cts_dpo":
        assert cfg.trainer.strategy.stage == 3
    assert OmegaConf.to_container(cfg, resolve=True)
