"""Two ranks, sharded or not, learn what one process learns; generation under ZeRO-3 ends."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.alignment.parity import fit_several
from tests.training.ranks import preload, printed, run

from primum.checkpoints.tiny import make_tiny

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        find_spec("deepspeed") is None, reason="the extra deepspeed is not installed"
    ),
]
preload("tests.alignment.parity", "deepspeed.runtime.zero.muon.original_muon")
CLIP = 0.8
Learned = tuple[list[float], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny(tmp_path_factory.mktemp("parity") / "tiny", "qwen3"))


def learned(folder: Path, plans: list[dict[str, Any]], ranks: int) -> list[Learned]:
    """The losses and weights of each plan, all run in one launch."""
    folder.mkdir()
    for number, plan in enumerate(plans):
        (folder / str(number)).mkdir()
        plan |= {"folder": str(folder / str(number)), "ranks": ranks}
    run(fit_several, plans, ranks=ranks, folder=folder, timeout=280)
    results = []
    for number in range(len(plans)):
        left = folder / str(number)
        assert (left / "exported.pt").exists(), f"plan {number}\n{printed(folder)}"
        losses = [loss for _, loss in json.loads((left / "trace.json").read_text())]
        results.append((losses, torch.load(left / "exported.pt", weights_only=True)))
    return results


def agree(one: Learned, other: Learned, tolerance: float = 1e-4) -> None:
    assert len(one[0]) == len(other[0])
    assert one[0] == pytest.approx(other[0], rel=tolerance, abs=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        torch.testing.assert_close(
            other[1][name], value, rtol=tolerance, atol=tolerance * float(value.abs().max()),
            msg=lambda said, name=name: f"{name}: {said}",
        )  # fmt: skip


def test_shards_learn_supervised_and_by_preference_as_one_process(
    tmp_path: Path, model: str
) -> None:
    """Ten SGD steps, accumulated and clipped; adapters and whole models."""
    kinds: list[dict[str, Any]] = [
        {"kind": "packed", "clip": CLIP},
        {"kind": "dpo", "clip": CLIP, "reference": "cached", "rate": 0.05},
        {"kind": "dpo", "lora": True, "rate": 0.3},
    ]
    alone = learned(tmp_path / "alone", [{"model": model, **kind} for kind in kinds], 1)
    for losses, _ in alone[1:]:
        assert len(losses) == 10 and losses[-1] < losses[0]
    plans = [{"model": model, "strategy": "zero3", "accumulate": 2, **kind} for kind in kinds]
    for one, both in zip(alone, learned(tmp_path / "both", plans, 2), strict=True):
        agree(one, both)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("clip", [None, CLIP])
def test_every_stage_of_every_objective(
    tmp_path: Path, model: str, accumulate: int, clip: float | None
) -> None:
    kinds: list[dict[str, Any]] = [
        {"kind": kind, "clip": clip, "rate": 0.05}
        for kind in ("sft", "packed", "dpo", "kto", "reward")
    ]
    kinds += [{"kind": "sft", "lora": True, "rate": 1.0, "clip": clip}]
    kinds += [{"kind": "dpo", "lora": True, "rate": 0.3, "clip": clip}]
    kinds += [{"kind": "dpo", "reference": "copy", "rate": 0.05, "clip": clip}]
    if accumulate > 1:  # an optimizer step of KTO averages its drift by micro-batch
        kinds = [kind for kind in kinds if kind["kind"] != "kto"]
    alone = learned(
        tmp_path / "alone",
        [{"model": model, "accumulate": min(4, accumulate), **kind} for kind in kinds], 1,
    )  # fmt: skip
    spread = min(accumulate, 2)  # four rows a step: two ranks take at most two in turn
    plans = [
        {"model": model, "strategy": name, "accumulate": spread, **kind}
        for name in ("ddp", "zero1", "zero2", "zero3")
        for kind in kinds
    ]
    for number, both in enumerate(learned(tmp_path / "both", plans, 2)):
        agree(alone[number % len(kinds)], both)


GRPO: list[dict[str, Any]] = [
    {"kind": "grpo", "rate": 0.5, "longest": 20},
    {"kind": "grpo", "rate": 1.0, "lora": True, "loss": "grpo", "combine": "normalise_then_sum"},
]


def test_uneven_answers_end_under_zero3_and_teach_what_one_process_learns(
    tmp_path: Path, model: str
) -> None:
    """Twelve prompts, three steps; some answers stop at once, others go on to the end."""
    alone = learned(tmp_path / "alone", [{"model": model, **GRPO[0]}], 1)
    plans = [
        {"model": model, "strategy": "zero3", "sharded": sharded, **GRPO[0]}
        for sharded in ("gather", "together")
    ]
    for both in learned(tmp_path / "both", plans, 2):
        agree(alone[0], both)


@pytest.mark.slow
def test_grpo_under_every_strategy_is_the_same_step(tmp_path: Path, model: str) -> None:
    alone = learned(tmp_path / "alone", [{"model": model, **kind} for kind in GRPO], 1)
    plans = [
        {"model": model, "strategy": name, "accumulate": accumulate, **kind}
        for name, accumulate in (("ddp", 1), ("zero1", 1), ("zero2", 2), ("zero3", 2))
        for kind in GRPO
    ]
    for number, both in enumerate(learned(tmp_path / "both", plans, 2)):
        agree(alone[number % 2], both)


@pytest.mark.slow
def test_adapters_in_bf16_train_under_zero3(tmp_path: Path, model: str) -> None:
    plan = {"kind": "sft", "lora": True, "rate": 1.0, "dtype": "bfloat16", "precision": "bf16-true",
            "model": model, "strategy": "zero3", "checkpointing": True}  # fmt: skip
    ((losses, weights),) = learned(tmp_path / "both", [plan], 2)
    assert losses[-1] < losses[0] - 0.1
    assert any(weights[name].any() for name in weights if "lora_B" in name)
