"""A teacher that follows its student slowly: an exponential moving average of its weights."""

import copy
import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from primum.errors import UserError


class Teacher(nn.Module):
    """A copy of `student`, in float32 and evaluation mode, that only `follow` changes.

    In bfloat16 an average with momentum 0.996 stands still, since a 250th of most updates is below
    its resolution; the copy therefore keeps its precision whatever the module around it is cast to.

    Args:
        student: What is copied and later followed.

    Attributes:
        network: The copy.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.network: Any = copy.deepcopy(student).float().requires_grad_(False).eval()

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.network(*inputs, **options)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device, but keep float32."""

        def moved(value: Tensor) -> Tensor:
            found = fn(value)
            same = found.dtype == value.dtype or not value.is_floating_point()
            return found if same else value.to(found.device)

        return super()._apply(moved, recurse)

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Move every weight by `1 - momentum` of its distance from the student's.

        Under ZeRO-3 each rank moves its own shards, without gathering anything. A plain loop over
        parameters would find them empty there, and silently change nothing.

        Raises:
            UserError: The shards are not in float32 or not in memory.
        """
        mine, theirs = dict(self.network.named_parameters()), dict(student.named_parameters())
        if mine.keys() != theirs.keys():
            raise ValueError("teacher and student are different networks")
        for name, weight in mine.items():
            for ours, new in places(name, weight, theirs[name]):
                ours.lerp_(new.to(ours.dtype), 1 - momentum)
        for buffer, new in zip(self.network.buffers(), student.buffers(), strict=True):
            buffer.copy_(new)


def places(name: str, teacher: Tensor, student: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Where a weight's values lie in this process: the tensor itself, or its ZeRO-3 shard."""
    if not hasattr(teacher, "ds_id"):
        return [(teacher.data, student.data)]
    ours, new = teacher.ds_tensor, student.ds_tensor  # type: ignore[attr-defined]
    held = all(str(shard.status).endswith(".AVAILABLE") for shard in (ours, new))
    if ours.dtype != torch.float32 or ours.shape != new.shape or not held:
        raise UserError(
            f"Under ZeRO-3 the teacher's shard of `{name}` is {ours.dtype} and cannot follow its"
            " student there",
            remedy="train with trainer=deepspeed_zero2 or trainer=ddp, or in precision 32-true"
            " without offloading parameters to disk",
        )
    found = [(ours.data, new.data)]
    if teacher.numel() and teacher.shape == student.shape and teacher.numel() == student.numel():
        found.append((teacher.data, student.data))  # small weights also stay whole on every rank
    return found


def rising_momentum(start: float, share: float) -> float:
    """Momentum that rises to 1 along a cosine, as in DINO.

    Args:
        start: At the beginning.
        share: Of training that is done, within 0..1.

    >>> [round(rising_momentum(0.996, share), 4) for share in (0.0, 0.5, 1.0)]
    [0.996, 0.998, 1.0]
    """
    return 1 - (1 - start) * (1 + math.cos(math.pi * min(1.0, max(0.0, share)))) / 2
