"""Checkpoints that are whole or absent, and are read without running what a pickle may hold."""

import os
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from primum.errors import UserError
from primum.files import OUT_OF_SPACE, full_disk, full_disk_named

UNREADABLE = (RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and moves into place, so a kill while saving keeps the old file.

    Lightning's default stages the bytes in the system's temporary folder, often another disk, from
    where a move is a copy that can be cut short; it also holds a checkpoint in memory twice.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            UserError: The disk is full; nothing half-written is left, an older file is untouched.
        """
        if "://" in str(path):  # object stores are atomic by themselves
            return super().save_checkpoint(checkpoint, path, storage_options)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with full_disk_told(path), os.fdopen(descriptor, "wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(partial, 0o644)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)  # DeepSpeed left a folder of this name
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read tensors and plain Python, whatever `weights_only` says.

        Raises:
            UserError: The file is absent, cut short, damaged, or holds other objects.
        """
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        check_whole(path)
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except UNREADABLE as error:
            raise unreadable(path, error) from error

    def remove_checkpoint(self, path: str | Path) -> None:
        super().remove_checkpoint(path)
        shutil.rmtree(Path(path).with_name(f".{Path(path).name}.previous"), ignore_errors=True)


def check_whole(path: str | Path) -> None:
    """Compare every byte of a checkpoint with the CRC-32 it was written with.

    `torch.load` does not, so a damaged weight would otherwise be trained on. A folder is taken as
    it is: DeepSpeed reads its files itself.

    Raises:
        UserError: It is absent, cut short or damaged.
    """
    path = Path(path)
    if path.is_dir():
        return
    if not path.is_file():
        raise UserError("There is no such checkpoint", file=path, remedy="resume=last, or none")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if damaged is not None:
        raise unreadable(path, ValueError(f"CRC-32 of {damaged} differs"))


def unreadable(path: str | Path, error: Exception) -> UserError:
    """The error for a checkpoint that cannot be used; nothing older is taken silently."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"This checkpoint is cut short or damaged ({reason})",
        file=path,
        remedy="name an older one of the run with resume=FILE, or leave resume= out",
    )


@contextmanager
def full_disk_told(path: str | Path) -> Iterator[None]:
    """Name the file when the disk fills up, also where PyTorch reports it as a RuntimeError."""
    try:
        with full_disk_named(Path(path)):
            yield
    except RuntimeError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, OSError) and cause.errno in OUT_OF_SPACE:
            raise full_disk(path) from error
        stuck = "PytorchStreamWriter" in str(error) or "unexpected pos" in str(error)
        if not stuck or shutil.disk_usage(Path(path).parent).free > 1 << 20:
            raise
        raise full_disk(path) from error
