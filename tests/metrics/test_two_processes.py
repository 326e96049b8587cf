"""Metrics add up over processes: two ranks of gloo see half the cases each."""

import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as processes

from primum.metrics.perplexity import CorpusPerplexity, corpus_perplexity
from primum.metrics.proportion import Proportion, proportion

SUMS = [-9.0, -30.5, -12.25, -4.0, -7.5]
TOKENS = [3, 12, 5, 1, 4]
HITS = [True, False, True, True, False]


def rank_main(rank: int, rendezvous: str, found: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    mine = slice(0, 2) if rank == 0 else slice(2, None)  # unequal shares
    share, perplexity = Proportion("refused"), CorpusPerplexity()
    share.update(torch.tensor(HITS[mine]))
    perplexity.update(torch.tensor(SUMS[mine]), torch.tensor(TOKENS[mine]))
    torch.save([list(share.compute()), list(perplexity.compute())], f"{found}.{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.process
def test_two_ranks_score_like_one(tmp_path: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    processes.spawn(rank_main, (str(tmp_path / "meet"), str(tmp_path / "found")), nprocs=2)
    expected = [list(proportion(3, 5, "refused")), list(corpus_perplexity(SUMS, TOKENS))]
    assert [torch.load(tmp_path / f"found.{rank}") for rank in (0, 1)] == [expected, expected]
