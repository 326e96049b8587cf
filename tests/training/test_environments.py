"""Ranks come out right under every launcher."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as L
import pytest
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from tests.training.ranks import printed

from primum.training.environments import (
    DeepSpeedLauncherEnvironment,
    trainer_plugins,
)
from primum.training.saving import AtomicCheckpointIO

ROOT = Path(__file__).resolve().parents[2]
DEEPSPEED = {
    "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "CROSS_RANK": "1", "CROSS_SIZE": "2",
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_NODEID": "1",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "9", "SLURM_JOB_NAME": "train",
    "SLURM_NODELIST": "node[1-2]",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "CROSS_")) or name in DEEPSPEED:
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, LightningEnvironment),
        (DEEPSPEED | {"TORCHELASTIC_RUN_ID": "x"}, TorchElasticEnvironment),
        (DEEPSPEED, DeepSpeedLauncherEnvironment),
        (SLURM, SLURMEnvironment),
    ],
    ids=["plain", "torchrun", "deepspeed", "slurm"],
)
def test_a_trainer_takes_the_launcher_s_ranks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str], kind: type
) -> None:
    for name, value in (given | {"GROUP_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    options = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "logger": False}
    trainer = L.Trainer(  # type: ignore[arg-type]
        **options, num_nodes=2, plugins=trainer_plugins(), default_root_dir=tmp_path
    )
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    assert type(environment) is kind
    assert environment.creates_processes_externally == bool(given)
    if given:
        ranks = environment.global_rank(), environment.local_rank(), environment.world_size()
        assert (*ranks, environment.node_rank()) == (3, 1, 4, 1)
        with pytest.raises(ValueError, match="3"):
            environment.validate_settings(num_devices=3, num_nodes=2)


def test_every_trainer_writes_whole_checkpoints() -> None:
    assert [type(plugin) for plugin in trainer_plugins()] == [AtomicCheckpointIO]


SCRIPT = """
import json, sys
from tests.training.parity import fit
fit(json.loads(sys.argv[-1]))  # before it the deepspeed launcher puts --local_rank=0
"""


def nodes(folder: Path, commands: list[list[str]]) -> None:
    """Start one launcher a node, all on this machine, and wait for each."""
    given = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    given["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}"
    started = []
    for node, command in enumerate(commands):
        with (folder / f"node{node}.txt").open("w") as log:
            started.append(subprocess.Popen(command, env=given, cwd=ROOT, stdout=log, stderr=log))
    for process in started:
        process.wait(300)
    assert (folder / "exported.pt").exists(), printed(folder)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def losses(folder: Path) -> list[float]:
    return [loss for _, loss in json.loads((folder / "trace.json").read_text())]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_two_nodes_on_one_machine_train_as_one_process(tmp_path: Path, launcher: str) -> None:
    pytest.importorskip("deepspeed")
    from tests.training.parity import fit
    from tests.training.ranks import run

    alone, both = tmp_path / "alone", tmp_path / "both"
    alone.mkdir(), both.mkdir()
    run(fit, {"folder": str(alone), "accumulate": 2, "epochs": 1}, folder=alone)

    plan = {"folder": str(both), "strategy": "zero2", "devices": 1, "nodes": 2, "epochs": 1}
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    port, arguments = free_port(), [str(script), json.dumps(plan)]
    if launcher == "torchrun":
        start = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    else:
        hosts = tmp_path / "hostfile"
        hosts.write_text("127.0.0.1 slots=1\nlocalhost slots=1\n")
        start = [str(Path(sys.executable).parent / "deepspeed"), f"--hostfile={hosts}", "--no_ssh"]
    start += ["--master_addr=127.0.0.1", f"--master_port={port}"]
    nodes(both, [[*start, f"--node_rank={node}", *arguments] for node in range(2)])
    assert losses(both) == pytest.approx(losses(alone), rel=1e-5)
