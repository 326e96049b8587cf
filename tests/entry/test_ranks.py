"""Who started this process, and the run id that all ranks share."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from primum.entry.ranks import rank, refuse_own_ranks, restarted, run_id, started_outside
from primum.errors import UserError

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "GROUP_WORLD_SIZE": "1"}
SRUN = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "x"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PRIMUM_RUN_ID": "mine"}, "mine"),
        ({"PRIMUM_RUN_ID": "a b/c", **TORCHRUN}, "a-b-c"),
        ({"TORCHELASTIC_RUN_ID": "job7", **TORCHRUN}, "job7"),
        (SRUN, "77-0"),
    ],
)
def test_the_launchers_id_is_taken(environment: dict[str, str], expected: str) -> None:
    assert run_id(environment) == expected


def test_two_runs_have_two_ids_that_sort_by_time() -> None:
    first, second = run_id({}), run_id({})
    assert first != second
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", first)


def test_a_shell_inside_an_allocation_is_no_rank() -> None:
    shell = {**SRUN, "SLURM_JOB_NAME": "interactive"}
    assert not started_outside(shell) and started_outside(SRUN)
    assert run_id(shell) != run_id(shell)


def test_children_of_one_launcher_agree_without_its_help() -> None:
    code = "from primum.entry.ranks import run_id; print(run_id())"
    drop = ("PRIMUM_RUN_ID", "TORCHELASTIC_RUN_ID")
    own = {name: value for name, value in os.environ.items() if name not in drop}
    ids = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=own | TORCHRUN | {"RANK": rank, "TORCHELASTIC_RUN_ID": "none"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for rank in "01"
    ]
    assert ids[0] == ids[1] and str(os.getpid()) in ids[0]


def test_machines_with_nothing_in_common_are_refused() -> None:
    with pytest.raises(UserError, match="rdzv-id"):
        run_id({**TORCHRUN, "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"})


def test_rank_and_restart_are_read_from_the_launcher() -> None:
    assert rank({}) == 0 and rank(TORCHRUN) == 1 and rank(SRUN) == 3
    assert rank({"LOCAL_RANK": "1"}) == 1  # a child of Lightning's
    assert rank({**SRUN, "SLURM_JOB_NAME": "bash"}) == 0
    assert restarted({"TORCHELASTIC_RESTART_COUNT": "1"})
    assert not restarted({"TORCHELASTIC_RESTART_COUNT": "0"}) and not restarted({})


@pytest.mark.parametrize(
    "trainer",
    [
        {"strategy": "ddp", "devices": 2, "accelerator": "cpu"},
        {"strategy": "auto", "devices": [0, 1]},
        {"strategy": {"_target_": "primum.training.strategies.DeepSpeed"}, "devices": "2"},
        {"strategy": "ddp", "devices": "0,1"},
        {"strategy": "ddp", "devices": 1, "num_nodes": 2},
    ],
)
def test_a_sweep_that_would_start_ranks_is_refused(
    trainer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="each rank would repeat"):
        refuse_own_ranks(trainer)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    refuse_own_ranks(trainer)  # the ranks are there already


@pytest.mark.parametrize(
    "trainer",
    [
        {"strategy": "auto", "devices": 1},
        {"strategy": "ddp", "devices": "auto", "accelerator": "cpu"},
        {"strategy": "ddp_spawn", "devices": 2, "accelerator": "cpu"},
    ],
)
def test_a_sweep_in_one_process_is_welcome(
    trainer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    refuse_own_ranks(trainer)
