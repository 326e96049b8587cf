"""Whether a released state fits a network: every key accounted for, or listed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from primum.errors import UserError

COUNTERS = "num_batches_tracked"  # of batch norms: unused in inference, absent in frozen ones


@dataclass(frozen=True)
class Coverage:
    """What became of the keys of a state.

    Attributes:
        matched: How many tensors found their place.
        missing: The network's keys without a tensor.
        unexpected: The state's keys that the network has no place for.
        misshapen: Keys with a tensor of another shape, and both shapes.
        dropped: Keys left out on purpose (heads of the training, mask tokens).
    """

    matched: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every key found its place."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        lines = [
            f"{self.matched} matched, {len(self.missing)} missing, {len(self.unexpected)} "
            f"unexpected, {len(self.misshapen)} of another shape, {len(self.dropped)} left out"
        ]
        for word in ("missing", "unexpected", "misshapen"):
            lines += [f"  {word}: {key}" for key in getattr(self, word)]
        return "\n".join(lines)


def coverage(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], dropped: Collection[str] = ()
) -> Coverage:
    """Compare a state, its keys already renamed, with what a network holds."""
    needed = {key for key in wanted if not key.endswith(COUNTERS)}
    given = {key for key in state if not key.endswith(COUNTERS)}
    both = needed & given
    misshapen = [
        f"{key}: {tuple(state[key].shape)}, wanted {tuple(wanted[key].shape)}"
        for key in sorted(both)
        if state[key].shape != wanted[key].shape
    ]
    return Coverage(
        len(both) - len(misshapen),
        tuple(sorted(needed - given)),
        tuple(sorted(given - needed)),
        tuple(misshapen),
        tuple(sorted(dropped)),
    )


def require_whole(found: Coverage, layout: str, file: str | Path | None = None) -> None:
    """Refuse a state that does not fit.

    Raises:
        UserError: It lists the first keys.
    """
    if found.whole:
        return
    shown = []
    for word in ("missing", "unexpected", "misshapen"):
        keys = getattr(found, word)
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            shown.append(f"{len(keys)} {word} ({', '.join(keys[:3])}{more})")
    raise UserError(
        f"These weights do not have the layout of {layout}: {'; '.join(shown)}",
        file=file,
        remedy="name the model they belong to; primum checkpoints convert FILE prints their keys",
    )
