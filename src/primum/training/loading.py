"""Training batches from where the trainer stands, each knowing the weight of its optimizer step."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from primum.errors import UserError
from primum.training.sampling import ResumableBatchSampler


class ResumableLoader(DataLoader):
    """Training batches in an order that depends on (seed, epoch), from the trainer's position on.

    Rank, world size, accumulation, epoch and offset are read from the trainer, so a resumed run
    reads the samples the interrupted one had not completed, whatever workers had fetched ahead.

    Args:
        dataset: Map-style. Its indices are integers that also have `.epoch`: see `Draw`.
        trainer: The one that fits.
        batch_size: Samples in a micro-batch, at most; an optimizer step sees
            `batch_size * accumulate_grad_batches * world_size` of them.
        seed, shuffle, lengths, groups: See `ResumableBatchSampler`.
        weigh: Maps a micro-batch (a dict) to its weight, such as its number of supervised tokens.
            Each micro-batch then has a float `loss_scale`, and `sum of losses * loss_scale` as the
            loss gives the gradient of the mean over all ranks and accumulated micro-batches.
        options: Other arguments of `DataLoader`, such as `collate_fn` and `num_workers`.
    """

    def __init__(
        self,
        dataset: Dataset,
        trainer: Trainer,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        lengths: Sequence[int] | None = None,
        groups: Sequence[int] | None = None,
        weigh: Callable[[Any], float] | None = None,
        **options: Any,
    ) -> None:
        sampler = ResumableBatchSampler(
            len(dataset),  # type: ignore[arg-type]
            batch_size,
            accumulate=trainer.accumulate_grad_batches,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            seed=seed,
            shuffle=shuffle and not trainer.overfit_batches,  # type: ignore[attr-defined]
            lengths=lengths,
            groups=groups,
        )
        # its own generator: starting an epoch must not move the run's global randomness
        options.setdefault("generator", torch.Generator().manual_seed(seed))
        super().__init__(dataset, batch_sampler=sampler, **options)
        self.__dict__["sampler"] = AlreadyDealt(dataset, num_replicas=1, rank=0)
        self.trainer = trainer
        self.weigh = weigh

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches the trainer will take, which `limit_train_batches` may cut."""
        limit = self.trainer.limit_train_batches  # `overfit_batches` sets it too
        cut = limit if isinstance(limit, int) else int(len(self) * limit)
        return min(len(self), cut)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if self.trainer.fit_loop.is_resuming and not any(
            getattr(callback, "resumes_positions", False)
            for callback in self.trainer.callbacks  # type: ignore[attr-defined]
        ):
            raise UserError(
                "This run is resumed without the callback that knows where its samples stood",
                remedy="add primum.training.resume.ResumeState to the trainer's callbacks",
            )
        return self.from_position()

    def from_position(self) -> Iterator[Any]:
        """The epoch's batches that are still to come.

        The position is read with the first batch: a module that asks for the number of steps in
        `configure_optimizers` makes Lightning begin an iteration before it restores its counters.
        """
        epoch, offset = position(self.trainer)
        if offset >= self.batches_per_epoch:
            return  # all of this epoch is done but its last hooks
        sampler = self.batch_sampler
        assert isinstance(sampler, ResumableBatchSampler)
        sampler.seek(epoch, offset)
        batches: Iterator[Any] = super().__iter__()
        if self.weigh is not None:
            batches = self.scaled(batches, self.batches_per_epoch - offset, sampler.accumulate)
        yield from batches

    def prepared(self, window: list[Any]) -> list[Any]:
        """The micro-batches of one optimizer step, before they are weighed; as they are."""
        return window

    def scaled(self, batches: Iterator[Any], remaining: int, accumulate: int) -> Iterator[Any]:
        """Look one optimizer step ahead, agree on its weight over all ranks, and hand it out."""
        assert self.weigh is not None
        strategy = self.trainer.strategy
        while remaining > 0:
            window = list(islice(batches, min(accumulate, remaining)))
            if not window:
                return
            remaining -= len(window)
            window = self.prepared(window)
            weight = torch.tensor(
                sum(float(self.weigh(batch)) for batch in window), device=strategy.root_device
            )
            total = float(strategy.reduce(weight, reduce_op="sum"))
            # Lightning divides by `accumulate`, the strategies average over ranks
            scale = self.trainer.world_size * accumulate / total if total else 0.0
            for batch in window:
                batch["loss_scale"] = scale
                yield batch


class AlreadyDealt(DistributedSampler, SequentialSampler):
    """Tells Lightning, by its types, that ranks and `overfit_batches` are already taken care of."""


def position(trainer: Trainer) -> tuple[int, int]:
    """Epoch and micro-batch that `trainer` fetches next."""
    epochs = trainer.fit_loop.epoch_progress.current
    done = trainer.current_epoch  # epochs whose batches are all processed
    if epochs.ready == done:  # between two epochs
        return done, 0
    return done, trainer.fit_loop.epoch_loop.batch_progress.current.completed
