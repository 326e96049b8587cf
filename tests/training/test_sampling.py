"""The order of samples is a function of seed and epoch, and every rank gets its share."""

import pickle
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DistributedSampler

from primum.training.sampling import (
    Draw,
    ResumableBatchSampler,
    UnrepeatedDistributedSampler,
    example_generator,
)


def ranks(size: int, world_size: int, **options: object) -> list[ResumableBatchSampler]:
    return [
        ResumableBatchSampler(size, rank=rank, world_size=world_size, **options)  # type: ignore
        for rank in range(world_size)
    ]


@pytest.mark.parametrize("size", [8, 37, 100, 101])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("group", [False, True])
def test_each_sample_comes_once_and_ranks_have_equal_steps(
    size: int, world_size: int, accumulate: int, group: bool
) -> None:
    lengths = list(range(size)) if group else None
    samplers = ranks(size, world_size, batch_size=3, accumulate=accumulate, lengths=lengths)
    batches = [list(sampler) for sampler in samplers]
    assert sorted(i for rank in batches for batch in rank for i in batch) == list(range(size))
    assert {len(rank) for rank in batches} == {len(samplers[0])}
    assert len(samplers[0]) % accumulate == 0
    sizes = [len(batch) for rank in batches for batch in rank]
    assert min(sizes) >= 1 and max(sizes) <= 3


def test_too_few_samples_are_repeated_rather_than_a_rank_left_waiting() -> None:
    batches = [list(sampler) for sampler in ranks(3, 2, batch_size=1, accumulate=2)]
    assert all(len(batch) == 1 for rank in batches for batch in rank)
    seen = Counter(i for rank in batches for batch in rank for i in batch)
    assert set(seen) == {0, 1, 2} and seen.total() == 4


def test_an_offset_continues_the_same_epoch() -> None:
    sampler = ResumableBatchSampler(50, 4, seed=9)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.seek(3, 5)
    assert list(sampler) == whole[5:]
    assert list(sampler) == whole  # the offset holds for one iteration
    state = sampler.state_dict() | {"offset": 5}
    other = ResumableBatchSampler(50, 4, seed=9)
    other.load_state_dict(state)
    assert list(other) == whole[5:]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = ResumableBatchSampler(50, 4, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_a_step_sees_the_same_samples_however_ranks_and_accumulation_share_it() -> None:
    def steps(world_size: int, accumulate: int) -> list[list[int]]:
        batches = [
            list(sampler)
            for sampler in ranks(71, world_size, batch_size=2, accumulate=accumulate, seed=4)
        ]
        return [
            sorted(i for rank in batches for batch in rank[k : k + accumulate] for i in batch)
            for k in range(0, len(batches[0]), accumulate)
        ]

    assert steps(1, 4) == steps(2, 2) == steps(4, 1)


def test_grouping_by_length_saves_most_of_the_padding() -> None:
    lengths = np.random.default_rng(0).integers(10, 500, 640).tolist()

    def padded(group: bool) -> int:
        options = {"lengths": lengths} if group else {}
        sampler = ResumableBatchSampler(640, 8, **options)  # type: ignore[arg-type]
        return sum(len(batch) * max(lengths[i] for i in batch) for batch in sampler)

    real = sum(lengths)
    assert padded(False) > 1.5 * real
    assert padded(True) < 1.1 * real
    batches = list(ResumableBatchSampler(640, 8, lengths=lengths))
    means = [np.mean([lengths[i] for i in batch]) for batch in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3  # short ones do not come first


def test_an_index_carries_its_epoch_into_a_worker() -> None:
    sampler = ResumableBatchSampler(5, 2)
    sampler.set_epoch(4)
    index = pickle.loads(pickle.dumps(next(iter(sampler))))[0]
    assert isinstance(index, int) and index.epoch == 4
    assert [10, 20, 30, 40, 50][index] in (10, 20, 30, 40, 50)
    assert Draw(3, 1) == 3 and {3: "three"}[Draw(3, 1)] == "three"


def test_augmentation_depends_on_each_of_seed_epoch_and_sample() -> None:
    def draw(*key: int) -> float:
        import torch

        return torch.rand((), generator=example_generator(*key)).item()

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert len({draw(0, 1, 2), draw(1, 1, 2), draw(0, 2, 2), draw(0, 1, 3), draw(2, 1, 0)}) == 5


@pytest.mark.parametrize(("cases", "world_size"), [(10, 3), (2, 4), (9, 1)])
def test_evaluation_counts_every_case_once(cases: int, world_size: int) -> None:
    shares = [
        list(UnrepeatedDistributedSampler(range(cases), rank, world_size, skip=[1]))
        for rank in range(world_size)
    ]
    assert sorted(case for share in shares for case in share) == [
        case for case in range(cases) if case != 1
    ]
    sampler = UnrepeatedDistributedSampler(range(cases), 0, world_size, skip=[1])
    assert len(sampler) == len(shares[0])
    assert isinstance(sampler, DistributedSampler)  # what keeps Lightning from wrapping it


@pytest.mark.parametrize("group", [True, False])
def test_a_group_shares_a_step(group: bool) -> None:
    lengths = np.random.default_rng(0).integers(10, 500, 96).tolist() if group else None
    twins = [sample // 2 for sample in range(96)]
    sampler = ResumableBatchSampler(96, 8, lengths=lengths, groups=twins)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(96))
    assert all({i ^ 1 for i in batch} == set(batch) for batch in batches)
    apart = list(ResumableBatchSampler(96, 8, lengths=lengths))
    assert not all({i ^ 1 for i in batch} == set(batch) for batch in apart)
    with pytest.raises(ValueError, match="95 groups for 96 samples"):
        ResumableBatchSampler(96, 8, groups=twins[:95])
