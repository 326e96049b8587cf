"""A killed and resumed run sees the samples and losses of one that was never interrupted."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.ranks import printed, run
from tests.training.run import train

from primum.training.resume import find_resume

pytestmark = pytest.mark.process


def rows(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"steps{rank}.jsonl").read_text().splitlines()]


def story(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What happened at each place, later entries overwriting those that a resume repeats."""
    return {json.dumps([e.get("at"), e.get("val"), e.get("end")]): e for e in entries}


def go(plan: dict[str, Any], folder: Path, ranks: int = 1) -> list[int]:
    folder.mkdir(exist_ok=True)
    return run(train, plan | {"folder": str(folder)}, ranks=ranks, folder=folder)


def straight(plan: dict[str, Any], folder: Path, ranks: int = 1) -> dict[str, Any]:
    assert go(plan, folder, ranks) == [0] * ranks, printed(folder)
    return story(rows(folder))


def interrupted(
    plan: dict[str, Any], folder: Path, *stops: dict[str, Any], code: int = -9, ranks: int = 1
) -> dict[str, Any]:
    """Run into each stop in turn, resuming from the newest checkpoint, then to the end."""
    for stop in stops:
        if (folder / "checkpoints").exists():
            stop = stop | {"resume": str(find_resume(folder, folder))}
        codes = go(plan | stop, folder, ranks)
        assert code in codes, printed(folder)
    codes = go(plan | {"resume": str(find_resume("last", folder))}, folder, ranks)
    assert codes == [0] * ranks, printed(folder)
    return story(rows(folder))


def same_weights(first: Path, second: Path) -> None:
    one, two = (torch.load(folder / "final0.pt", weights_only=True) for folder in (first, second))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


@pytest.mark.parametrize(
    ("plan", "stops"),
    [
        ({"save_every": 4, "val_every": 5, "workers": 2}, [{"kill_at": 11}]),
        (
            {"save_every": 4, "workers": 2, "persistent": True, "group": True},
            [{"kill_at": 17}],
        ),
        ({"save_every": 4, "val_every": 4}, [{"kill_at": 12}, {"kill_at": 17}]),
        ({"save_every": 5, "val_every": 5}, [{"kill_in_validation_at": 5}]),
        (
            {"save_every": 5, "max_steps": 7, "epochs": -1},
            [{"kill_at": 6}, {"kill_at": 14}],
        ),
        ({"save_every": 2, "accumulate": 1, "val_every": 4}, [{"kill_at": 4}]),
        ({"save_every": 3, "limit": 7}, [{"kill_at": 7}, {"kill_at": 8}]),
        (
            {"checkpoint": {"save_last": True, "save_on_train_epoch_end": True}},
            [{"kill_at": 13}],
        ),
        (
            {"checkpoint": {"save_last": True, "monitor": "val/loss"}, "val_every": 6},
            [{"kill_at": 9}, {"kill_at": 16}],
        ),
    ],
    ids=[
        "mid-accumulation",
        "second-epoch-persistent-workers-grouped",
        "last-batch-then-again",
        "inside-validation",
        "step-based",
        "no-accumulation",
        "limited-epoch",
        "epoch-end-checkpoint",
        "validation-end-checkpoint",
    ],
)
def test_a_killed_run_resumes_bit_for_bit(
    tmp_path: Path, plan: dict[str, Any], stops: list[dict[str, Any]]
) -> None:
    expected = straight(plan, tmp_path / "straight")
    assert len(expected) > 10
    found = interrupted(plan, tmp_path / "killed", *stops)
    for place, row in expected.items():
        assert found[place] == row
    assert found.keys() == expected.keys()
    same_weights(tmp_path / "straight", tmp_path / "killed")


def test_sigterm_inside_an_accumulation_saves_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    plan = {
        "checkpoint": {"save_on_exception": True, "save_last": True, "monitor": "val/loss"},
        "workers": 2,
    }
    expected = straight(plan, tmp_path / "straight")
    found = interrupted(plan, tmp_path / "term", {"term_at": 8}, code=0)
    assert found == expected
    same_weights(tmp_path / "straight", tmp_path / "term")


def test_two_ranks_with_workers_resume_bit_for_bit(tmp_path: Path) -> None:
    plan = {"strategy": "ddp", "devices": 2, "workers": 2, "save_every": 4, "val_every": 4}
    straight(plan, tmp_path / "straight", ranks=2)
    interrupted(plan, tmp_path / "killed", {"kill_at": 7}, ranks=2)
    for rank in range(2):
        expected = story(rows(tmp_path / "straight", rank))
        assert story(rows(tmp_path / "killed", rank)) == expected
    same_weights(tmp_path / "straight", tmp_path / "killed")
    shares = [
        {i for row in rows(tmp_path / "straight", rank) for i in row.get("ids", [])}
        for rank in (0, 1)
    ]
    assert shares[0] | shares[1] == set(range(43))


def test_a_run_goes_on_with_fewer_processes_and_more_accumulation(tmp_path: Path) -> None:
    """Two ranks that accumulate 2 are killed; one that accumulates 4 sees what they had left."""
    folder = tmp_path / "run"
    two = {"strategy": "ddp", "devices": 2, "accumulate": 2, "save_every": 3, "epochs": 1}
    go(two | {"kill_at": 5}, folder, ranks=2)
    seen = [
        index
        for rank in (0, 1)
        for row in rows(folder, rank)
        if row["at"][1] < 2  # the checkpoint after batch 3 counts for the one whole step before it
        for index in row["ids"]
    ]
    (folder / "steps0.jsonl").unlink()
    one = {"accumulate": 4, "epochs": 1, "resume": str(find_resume("last", folder))}
    assert go(one, folder) == [0]
    left = [index for row in rows(folder) for index in row.get("ids", [])]
    assert sorted(seen + left) == list(range(43))


def test_another_batch_order_inside_an_epoch_is_refused_in_words(tmp_path: Path) -> None:
    go({"save_every": 4, "kill_at": 5}, tmp_path)
    codes = go({"size": 50, "resume": str(find_resume("last", tmp_path))}, tmp_path)
    assert codes == [1]
    assert "size 43 -> 50" in printed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_kills_at_random_moments_leave_no_trace(tmp_path: Path, seed: int) -> None:
    """The kill may fall into a step, a save, a validation or between two epochs."""
    dice = random.Random(seed)
    plan = {
        "accumulate": dice.randint(1, 4),
        "save_every": dice.randint(1, 5),
        "val_every": dice.choice([None, 2, 3, 7]),
        "workers": dice.choice([0, 2]),
        "persistent": dice.random() < 0.5,
        "group": dice.random() < 0.5,
        "size": dice.randint(25, 60),
        "epochs": 3,
    }
    began = time.monotonic()
    expected = straight(plan, tmp_path / "straight")
    patience = time.monotonic() - began
    for attempt in range(6):
        folder, kills = tmp_path / f"killed{attempt}", 0
        while kills < 20:
            found = sorted(folder.glob("checkpoints/last.ckpt"))
            resume = {"resume": str(find_resume(found[0], folder))} if found else {}
            moment = {"kill_after": patience * dice.uniform(0.3, 1.0)}
            codes = go(plan | resume | (moment if kills < 19 else {}), folder)
            assert codes[0] in (0, -9), printed(folder)
            if codes == [0]:
                break
            kills += 1
        if kills:
            break
        patience /= 2  # it was done before the kill
    assert kills
    steps = (folder / "steps0.jsonl").read_text().splitlines()
    whole = [json.loads(line) for line in steps if line.startswith("{") and line.endswith("}")]
    assert story(whole) == expected
    same_weights(tmp_path / "straight", folder)
