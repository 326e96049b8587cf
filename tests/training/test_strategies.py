"""Two ranks, sharded or not, train as one process does."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.parity import Regression, fit
from tests.training.ranks import preload, printed, run

from primum.errors import UserError
from primum.training.resume import find_resume

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        find_spec("deepspeed") is None, reason="the extra deepspeed is not installed"
    ),
]
preload("tests.training.parity", "deepspeed.runtime.zero.muon.original_muon")  # the slow imports

CLIP = 4.5  # gradients here have norms of 3.5 to 7: some steps are clipped, some are not
STRATEGIES = ["ddp", "zero1", "zero2", "zero3"]


def trained(
    folder: Path, ranks: int = 2, **plan: Any
) -> tuple[list[tuple[int, float]], dict[str, torch.Tensor]]:
    """The loss of each step and the exported weights."""
    folder.mkdir()
    plan |= {"folder": str(folder), "devices": ranks}
    run(fit, plan, ranks=ranks, folder=folder)
    # an exit code may be spoilt by the interpreter's end; the export is what counts
    assert (folder / "exported.pt").exists(), printed(folder)
    trace = [(step, loss) for step, loss in json.loads((folder / "trace.json").read_text())]
    return trace, torch.load(folder / "exported.pt", weights_only=True)


def agree(
    one: tuple[list[tuple[int, float]], dict[str, torch.Tensor]],
    two: tuple[list[tuple[int, float]], dict[str, torch.Tensor]],
    tolerance: float = 1e-5,
) -> None:
    assert [step for step, _ in one[0]] == [step for step, _ in two[0]]
    assert [loss for _, loss in one[0]] == pytest.approx(
        [loss for _, loss in two[0]], rel=tolerance
    )
    assert one[1].keys() == two[1].keys()
    for name, value in one[1].items():
        torch.testing.assert_close(two[1][name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3"])
def test_two_ranks_accumulating_and_clipping_train_as_one_process(
    tmp_path: Path, strategy: str
) -> None:
    alone = trained(tmp_path / "alone", ranks=1, accumulate=4, clip=CLIP)
    losses = [loss for _, loss in alone[0]]
    assert losses[-1] < 0.9 * losses[0]  # it learns, so a wrong gradient would show
    agree(alone, trained(tmp_path / "both", strategy=strategy, accumulate=2, clip=CLIP))


@pytest.mark.slow
@pytest.mark.parametrize("low_rank", [False, True], ids=["full", "low_rank"])
@pytest.mark.parametrize("clip", [0.0, CLIP])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_stage_trains_as_one_process(
    tmp_path: Path, strategy: str, accumulate: int, clip: float, low_rank: bool
) -> None:
    plan = {"clip": clip, "low_rank": low_rank}
    alone = trained(tmp_path / "alone", ranks=1, accumulate=2 * accumulate, **plan)
    agree(alone, trained(tmp_path / "both", strategy=strategy, accumulate=accumulate, **plan))


def test_gathered_shards_load_into_a_fresh_module(tmp_path: Path) -> None:
    _, weights = trained(tmp_path / "run", strategy="zero3", low_rank=True)
    module = Regression({"low_rank": True})
    untouched = module.net[2].frozen.weight.clone()
    module.load_state_dict(weights)
    assert torch.equal(module.net[2].frozen.weight, untouched)  # frozen ones are exported too
    assert weights["tied.weight"].data_ptr() == weights["net.3.weight"].data_ptr()


@pytest.mark.parametrize(
    ("strategy", "saved"),
    [("ddp", 7), ("zero2", 7), ("zero3", 8)],
    ids=["ddp", "zero2", "zero3"],
)
def test_sharded_runs_resume_inside_an_accumulation(
    tmp_path: Path, strategy: str, saved: int
) -> None:
    plan = {"strategy": strategy, "accumulate": 3, "clip": CLIP, "save_at": [4, saved]}
    straight = trained(tmp_path / "straight", **plan)
    found = find_resume("last", tmp_path / "straight")
    resumed = trained(tmp_path / "resumed", **plan, resume=str(found))
    assert resumed[0] == straight[0][-len(resumed[0]) :]  # the same bits
    assert len(resumed[0]) == len(straight[0]) - saved // 3
    assert not list(found.parent.glob(".*"))  # nothing half-written is left beside it


@pytest.mark.parametrize("late", [False, True], ids=["__init__", "configure_model"])
def test_a_pretrained_model_may_be_loaded_early_or_sharded_as_it_loads(
    tmp_path: Path, late: bool
) -> None:
    from primum.checkpoints.tiny import make_tiny

    plan = {"model": str(make_tiny(tmp_path / "model")), "late": late}
    alone = trained(tmp_path / "alone", ranks=1, **plan)
    agree(alone, trained(tmp_path / "both", strategy="zero3", **plan))


def test_a_plain_checkpoint_is_refused_by_deepspeed_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "other.ckpt").write_bytes(b"a file")
    plan = {"folder": str(folder), "strategy": "zero2", "resume": str(folder / "other.ckpt")}
    assert run(fit, plan, folder=folder) == [1]
    assert "resume it with the trainer that wrote it" in printed(folder)


def test_deepspeed_is_imported_only_when_it_is_used() -> None:
    code = "import sys, primum.training.strategies; sys.exit('deepspeed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_deepspeed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from primum.training.strategies import DeepSpeed

    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"primum\[deepspeed\]"):
        DeepSpeed()


@pytest.mark.parametrize("options", [{"stage": 4}, {"stage": 2, "offload_parameters": True}])
def test_impossible_stages_are_refused(options: dict[str, Any]) -> None:
    from primum.training.strategies import DeepSpeed

    with pytest.raises(UserError, match="stage"):
        DeepSpeed(**options)
