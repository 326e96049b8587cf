"""Ranks change nothing but the time, and neither does a kill: teacher and centre included."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.segmentation.run import train
from tests.training.ranks import preload, printed, run

from primum.training.resume import find_resume

pytestmark = pytest.mark.process
preload("tests.segmentation.run")
if find_spec("deepspeed") is not None:
    preload("deepspeed.runtime.zero.muon.original_muon")  # the slow import
needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="the extra deepspeed is not installed"
)


def trained(
    folder: Path, ranks: int = 1, **plan: Any
) -> tuple[list[list[float]], dict[str, torch.Tensor]]:
    folder.mkdir(exist_ok=True)
    run(train, plan | {"folder": str(folder), "devices": ranks}, ranks=ranks, folder=folder)
    assert (folder / "final.pt").exists(), printed(folder)
    trace = json.loads((folder / "trace.json").read_text())
    return trace, torch.load(folder / "final.pt", weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("alone") / "run", optimizer="SGD", rate=0.02)


@pytest.mark.parametrize(
    ("strategy", "accumulate"),
    [
        ("ddp", 1),
        ("ddp", 2),
        pytest.param("zero2", 1, marks=needs_deepspeed),
        pytest.param("zero3", 1, marks=needs_deepspeed),
    ],
)
def test_two_ranks_train_as_one_teacher_and_centre_included(
    tmp_path: Path, alone: Any, strategy: str, accumulate: int
) -> None:
    batch = 2 // accumulate
    both = trained(
        tmp_path / "both", 2, strategy=strategy, batch=batch, accumulate=accumulate,
        optimizer="SGD", rate=0.02,
    )  # fmt: skip
    assert [loss for _, loss in both[0]] == pytest.approx([loss for _, loss in alone[0]], rel=1e-4)
    assert both[1].keys() == alone[1].keys()
    for name, value in alone[1].items():
        torch.testing.assert_close(both[1][name], value, rtol=1e-4, atol=1e-4, msg=name)


def test_the_teacher_and_the_centre_do_move(alone: Any) -> None:
    from tests.segmentation.run import module

    fresh, after = module().state_dict(), alone[1]
    moved = [name for name in fresh if not torch.equal(fresh[name], after[name])]
    assert "targets.centre" in moved
    shadows = [name for name in moved if name.startswith("teacher.network.")]
    assert len(shadows) > 0.9 * sum(name.startswith("teacher.") for name in fresh)
    for name in shadows:  # it lies between where it began and where its student is
        student = after[name.replace("teacher.network.", "student.")]
        way = (after[name] - fresh[name]).norm() / (student - fresh[name]).norm().clamp(min=1e-12)
        assert way < 0.6, name


@pytest.mark.parametrize("plan", [{}, {"accumulate": 2, "batch": 2, "workers": 2}], ids=str)
def test_a_killed_run_goes_on_with_the_same_losses(tmp_path: Path, plan: dict[str, Any]) -> None:
    straight = trained(tmp_path / "straight", steps=5, **plan)
    folder = tmp_path / "killed"
    folder.mkdir()
    stop = {"folder": str(folder), "steps": 5, "save_every": 3, "kill_at": 5} | plan
    assert run(train, stop, folder=folder) == [-9], printed(folder)
    resumed = trained(folder, steps=5, resume=str(find_resume("last", folder)), **plan)
    assert resumed[0] == straight[0][-len(resumed[0]) :]  # the same bits
    assert 0 < len(resumed[0]) < len(straight[0])
    for name, value in straight[1].items():
        assert torch.equal(resumed[1][name], value), name


@needs_deepspeed
def test_shards_of_a_teacher_in_bf16_are_refused_in_words(tmp_path: Path) -> None:
    codes = run(
        train, {"folder": str(tmp_path), "strategy": "zero3", "precision": "bf16-true"},
        folder=tmp_path,
    )  # fmt: skip
    assert codes == [1]
    assert "cannot follow its student" in printed(tmp_path)
