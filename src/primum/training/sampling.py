"""Which samples make which batch: a pure function of the seed and the epoch."""

from collections.abc import Collection, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import DistributedSampler, Sampler


class Draw(int):
    """A sample's index that also knows the epoch it was drawn in, worker processes included."""

    epoch: int

    def __new__(cls, index: int, epoch: int) -> "Draw":
        draw = super().__new__(cls, index)
        draw.epoch = epoch
        return draw

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.epoch


def example_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """Randomness for one sample in one epoch, the same whoever asks and after any resume.

    >>> first = torch.rand(1, generator=example_generator(0, 2, 7))
    >>> first == torch.rand(1, generator=example_generator(0, 2, 7))
    tensor([True])
    """
    state = np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


class ResumableBatchSampler(Sampler[list[int]]):
    """Micro-batches of indices for one rank, from any epoch and offset on.

    The samples of one optimizer step are a window of `batch_size * accumulate * world_size`. An
    epoch has as many windows as that size needs, and they are made nearly equal, so that no step is
    much smaller than the others. A window is dealt out to `accumulate * world_size` micro-batches:

    - every rank has the same number of batches, a multiple of `accumulate`;
    - every sample comes once an epoch (should that leave a micro-batch empty, samples from the
      epoch's beginning come again);
    - the samples of a window depend on its size, not on how ranks and accumulation share it.

    Args:
        size: Number of samples in the data set.
        batch_size: Samples in a micro-batch, at most.
        accumulate: Micro-batches between two optimizer steps.
        rank, world_size: This process among all.
        seed: Order and epoch decide the order together; nothing else does.
        shuffle: False keeps the order of the data set.
        lengths: Of each sample, in any unit. Samples of similar length share a window, and those
            of most similar length a micro-batch, which saves padding; windows come in random order.
        groups: Of each sample, any integer. Samples of one group stay neighbours, so that they
            mostly share a window: opposite answers to like questions then pull in one step.
    """

    #: windows among which samples are sorted by length; more save more padding, fewer mix better
    POOL = 32

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        lengths: Sequence[int] | None = None,
        groups: Sequence[int] | None = None,
    ) -> None:
        if size < 1:
            raise ValueError("a sampler needs at least one sample")
        if batch_size < 1 or accumulate < 1 or not 0 <= rank < world_size:
            raise ValueError(f"{batch_size=}, {accumulate=}, {rank=}, {world_size=} do not fit")
        for each, told in (("lengths", lengths), ("groups", groups)):
            if told is not None and len(told) != size:
                raise ValueError(f"{len(told)} {each} for {size} samples")
        self.size, self.batch_size, self.accumulate = size, batch_size, accumulate
        self.rank, self.world_size, self.seed, self.shuffle = rank, world_size, seed, shuffle
        self.group_of = (
            np.arange(size) if groups is None else np.unique(groups, return_inverse=True)[1]
        )
        self.lengths = None  # mean of each group
        if lengths is not None:
            self.lengths = np.bincount(self.group_of, lengths) / np.bincount(self.group_of)
        self.drop_last = False  # Lightning and DeepSpeed look for it
        self.epoch, self.offset = 0, 0

    @property
    def windows(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-self.size // (self.batch_size * self.accumulate * self.world_size))

    def __len__(self) -> int:
        return self.windows * self.accumulate

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, unless it is already under way."""
        if epoch != self.epoch:
            self.seek(epoch, 0)

    def seek(self, epoch: int, offset: int) -> None:
        """Let the next iteration begin `offset` micro-batches into `epoch`."""
        self.epoch, self.offset = epoch, offset

    def state_dict(self) -> dict[str, Any]:
        """Where the next iteration begins, and all that the order depends on."""
        order = {"size": self.size, "seed": self.seed, "shuffle": self.shuffle}
        window = self.batch_size * self.accumulate * self.world_size
        return {"epoch": self.epoch, "offset": self.offset, "window": window, **order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seek(state["epoch"], state["offset"])

    def __iter__(self) -> Iterator[list[int]]:
        epoch, offset = self.epoch, self.offset
        self.offset = 0
        windows = self.deal(epoch)
        for batch in range(offset, len(self)):
            window, step = divmod(batch, self.accumulate)
            parts = np.array_split(windows[window], self.accumulate * self.world_size)
            mine = parts[step * self.world_size + self.rank]
            yield [Draw(index, epoch) for index in mine.tolist()]

    def deal(self, epoch: int) -> list[np.ndarray]:
        """The windows of an epoch: arrays of indices, the same on every rank."""
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        groups = int(self.group_of.max()) + 1
        order = generator.permutation(groups) if self.shuffle else np.arange(groups)
        if self.lengths is not None:
            pools = np.array_split(order, -(-self.windows // self.POOL))
            order = np.concatenate(
                [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
            )
        place = np.argsort(order)
        samples = np.argsort(place[self.group_of], kind="stable")
        # each micro-batch of each rank needs a sample, or collectives would hang
        samples = np.resize(samples, max(self.size, len(self) * self.world_size))
        windows = np.array_split(samples, self.windows)
        if self.lengths is not None and self.shuffle:
            return [windows[i] for i in generator.permutation(self.windows)]
        return windows


class UnrepeatedDistributedSampler(DistributedSampler):
    """Every case exactly once over all ranks, for evaluation; ranks may differ by one case.

    The samplers that Lightning and PyTorch add repeat cases until ranks are even, which changes a
    score. `test_step` must therefore not use collectives: ranks may have unequal steps, and with
    fewer cases than ranks some have none, which Lightning accepts of a module or data module that
    sets its `allow_zero_length_dataloader_with_multiple_devices = True` in `__init__`.

    Being a `DistributedSampler`, it is not wrapped a second time by Lightning.

    Args:
        cases: The data set, only for its length.
        rank, world_size: This process among all.
        skip: Cases that are already done; every rank must be given the same.
    """

    def __init__(
        self, cases: Sized, rank: int = 0, world_size: int = 1, skip: Collection[int] = ()
    ) -> None:
        super().__init__(cases, num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore
        done = set(skip)
        self.mine = [case for case in range(len(cases)) if case not in done][rank::world_size]

    def __iter__(self) -> Iterator[int]:
        return iter(self.mine)

    def __len__(self) -> int:
        return len(self.mine)
