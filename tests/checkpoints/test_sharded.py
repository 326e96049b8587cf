"""Two ranks, whatever shards the weights between them, leave the run that one process leaves."""

import functools
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from safetensors.torch import load_file
from tests.checkpoints.test_export import small_disk
from tests.checkpoints.tiny_run import make_run
from tests.training.ranks import preload, run

from primum.checkpoints.resolve import resolve
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.training.strategies import DeepSpeed

pytestmark = pytest.mark.process
GPUS = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="FSDP wants two GPUs"),
]
SGD = functools.partial(torch.optim.SGD, lr=0.1)  # unlike Adam, it makes no noise of rounding
preload("tests.checkpoints.tiny_run", "deepspeed.runtime.zero.muon.original_muon")


def strategy(name):
    if name.startswith("zero"):
        return DeepSpeed(stage=int(name[4]), logging_batch_size_per_gpu=6)  # no sampler tells
    if name.startswith("fsdp"):
        return FSDPStrategy(state_dict_type=name.removeprefix("fsdp_"), use_orig_params=True)
    return name


def leave(folder: Path, name: str, adapter: bool, place: str) -> None:
    """What each rank does; it writes down how it ended."""
    rank = os.environ["LOCAL_RANK"]
    try:
        made = make_run(
            folder,
            adapter=adapter,
            epochs=3,
            optimizer=SGD,
            accelerator="gpu" if name.startswith("fsdp") else "cpu",
            strategy=strategy(name),
            devices=2,
            run=place,
        )
        told = f"left {made.name}"
    except UserError as error:
        told = f"UserError: {error}"
    (folder / f"outcome{rank}").write_text(told)


def two_ranks(folder: Path, name: str, adapter: bool, place: str = "run") -> list[str]:
    make_tiny(folder / "base")
    run(leave, folder, name, adapter, place, ranks=2, folder=folder)
    logs = [(folder / f"rank{rank}.txt").read_text()[-2000:] for rank in range(2)]
    for rank in range(2):
        assert (folder / f"outcome{rank}").exists(), "\n".join(logs)
    return [(folder / f"outcome{rank}").read_text() for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process leaves."""
    runs = {}
    for adapter in (True, False):
        runs[adapter] = make_run(
            tmp_path_factory.mktemp("alone"), adapter=adapter, epochs=3, optimizer=SGD
        )
    return runs


@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "whole"])
@pytest.mark.parametrize(
    "name",
    [
        "ddp",
        "zero2",
        "zero3",
        pytest.param("fsdp_full", marks=GPUS),
        pytest.param("fsdp_sharded", marks=GPUS),
    ],
)
def test_shards_are_gathered(tmp_path, alone, name, adapter):
    assert two_ranks(tmp_path, name, adapter) == ["left run"] * 2
    found = resolve(tmp_path / "run")
    assert found.kind == ("adapter" if adapter else "full")
    assert found.manifest is not None
    assert found.manifest.environment["processes"] == 2
    file = "adapter_model.safetensors" if adapter else "model.safetensors"
    ours = load_file(tmp_path / "run" / "model" / file)
    theirs = load_file(alone[adapter] / "model" / file)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, atol=1e-5, rtol=1e-4, msg=key)


def test_a_full_disk_is_told_on_every_rank(tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        told = two_ranks(tmp_path, "ddp", False, "disk/run")
        assert all("disk is full" in one for one in told)
        assert [file for file in disk.rglob("*") if file.is_file()] == []
