"""A checkpoint is whole or absent, and a bad one is refused by name."""

import errno
import os
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from tests.training.ranks import run

from primum.errors import UserError
from primum.training import saving
from primum.training.resume import find_resume
from primum.training.saving import AtomicCheckpointIO
from primum.training.strategies import replace_folder

io = AtomicCheckpointIO()
WEIGHTS = {"state_dict": {"w": torch.arange(1000.0)}, "epoch": 3}


def write(path: Path, at: float | None = None) -> Path:
    io.save_checkpoint(WEIGHTS, path)
    if at is not None:
        os.utime(path, (at, at))
    return path


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    loaded = io.load_checkpoint(write(tmp_path / "run" / "last.ckpt"))
    assert torch.equal(loaded["state_dict"]["w"], WEIGHTS["state_dict"]["w"])  # type: ignore[index]
    assert os.listdir(tmp_path / "run") == ["last.ckpt"]


def save_and_die(path: str) -> None:
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # the last moment before it counts
    AtomicCheckpointIO().save_checkpoint({"epoch": 4}, path)


@pytest.mark.process
def test_a_kill_while_saving_keeps_the_previous_one(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt")
    assert run(save_and_die, str(path), folder=tmp_path) == [-9]
    assert io.load_checkpoint(path)["epoch"] == 3
    assert find_resume("last", tmp_path) == path  # what the kill left behind is no candidate


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "last.ckpt")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        io.save_checkpoint({"epoch": 4}, path)
    assert os.listdir(tmp_path) == ["last.ckpt"]
    monkeypatch.undo()
    assert io.load_checkpoint(path)["epoch"] == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_pytorch_s_own_words_for_a_full_disk_are_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdopen
    monkeypatch.setattr(
        saving.os, "fdopen", lambda fd, mode: (os.close(fd), real(os.open("/dev/full", 1), mode))[1]
    )
    with pytest.raises(UserError, match="disk is full"):
        io.save_checkpoint(WEIGHTS | {"big": torch.zeros(1_000_000)}, tmp_path / "last.ckpt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "last.ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    for read in (io.load_checkpoint, lambda path: find_resume(path, tmp_path)):
        with pytest.raises(UserError, match="damaged") as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_one_flipped_bit_in_a_weight_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt")
    data = bytearray(path.read_bytes())
    data[data.index(torch.tensor(500.0).numpy().tobytes()) + 1] ^= 1
    path.write_bytes(data)
    torch.load(path, weights_only=True)  # which PyTorch does not
    with pytest.raises(UserError, match="CRC-32"):
        io.load_checkpoint(path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "trapped"),)

    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": Trap()}, path)
    with pytest.raises(UserError, match="damaged"):
        io.load_checkpoint(path, weights_only=False)
    assert not (tmp_path / "trapped").exists()


def test_last_is_the_newest_of_all_runs(tmp_path: Path) -> None:
    write(tmp_path / "a" / "run1" / "checkpoints" / "last.ckpt", at=100)
    newer = write(tmp_path / "b" / "run2" / "checkpoints" / "epoch2.ckpt", at=200)
    assert find_resume("last", tmp_path) == newer
    older = write(tmp_path / "a" / "run1" / "checkpoints" / "epoch1.ckpt", at=50)
    assert find_resume(str(tmp_path / "a" / "run1"), tmp_path).name == "last.ckpt"
    assert find_resume(str(older), tmp_path) == older


def test_the_newest_being_damaged_does_not_fall_back_to_an_older_one(tmp_path: Path) -> None:
    write(tmp_path / "a" / "epoch1.ckpt", at=100)
    (tmp_path / "a" / "last.ckpt").write_bytes(b"PK half a file")
    with pytest.raises(UserError, match=r"last\.ckpt"):
        find_resume("last", tmp_path)


def test_nothing_found_lists_what_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "alignment" / "run7").mkdir(parents=True)
    (tmp_path / "alignment" / "run7" / "config.yaml").write_text("seed: 1")
    with pytest.raises(UserError, match="run7"):
        find_resume("last", tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find_resume(str(tmp_path / "nowhere"), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        find_resume("last", tmp_path / "empty")


def sharded(path: Path, content: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "latest").write_text("checkpoint" + content)
    return path


def test_a_folder_of_shards_is_found_and_replaced_whole(tmp_path: Path) -> None:
    last = sharded(tmp_path / "run" / "last.ckpt")
    assert find_resume("last", tmp_path) == find_resume(str(last), tmp_path) == last
    replace_folder(sharded(tmp_path / "run" / ".last.ckpt.partial", " 2"), last)
    assert (last / "latest").read_text() == "checkpoint 2"
    assert os.listdir(tmp_path / "run") == ["last.ckpt"]


def test_a_kill_between_two_moves_still_leaves_a_folder_to_resume_from(tmp_path: Path) -> None:
    aside = sharded(tmp_path / "run" / ".last.ckpt.previous")
    sharded(tmp_path / "run" / ".last.ckpt.partial")
    assert find_resume("last", tmp_path) == aside


def test_a_checkpoint_of_lightning_s_own_writer_can_be_read_too(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "old.ckpt")
    assert zipfile.is_zipfile(tmp_path / "old.ckpt")
    assert io.load_checkpoint(tmp_path / "old.ckpt")["epoch"] == 3
