"""The simulator and the peers it compares with."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from primum.errors import UserError
from primum.parsing.peers import fixed_window, prompt_lookup
from primum.parsing.simulate import Replay, simulate
from primum.parsing.speculation.budget import MeanBudget
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.speculator import Speculator


def replay(noise: float, seed: int = 0) -> Replay:
    rng = np.random.default_rng(seed)
    words = [rng.integers(1, 500, 5).tolist() for _ in range(40)]
    text = [token for number in rng.integers(0, 40, 160) for token in words[number]]
    draft = np.array(text)
    wrong = rng.random(len(draft)) < noise
    draft[wrong] = rng.integers(500, 1000, wrong.sum())
    return Replay("page", text, 2 * len(text), [Draft("", draft, np.zeros(1, dtype=np.int64))])


def ours(nodes=48.0) -> Speculator:
    return Speculator([RegionMatch(), OwnOutput()], MeanBudget(nodes))


def test_every_token_comes_of_a_forward_and_the_budget_holds():
    result = simulate([replay(0.05)], ours(20))
    assert result.tokens == 800
    assert result.mean_nodes <= 20
    assert result.characters_per_forward == pytest.approx(2 * result.tokens_per_forward)
    assert sum(result.by_claim().values()) + result.forwards == pytest.approx(800, abs=1)


def test_ours_beats_the_fixed_window_and_that_beats_prompt_lookup():
    pages = [replay(0.1, seed) for seed in range(2)]
    rates = [simulate(pages, arm).tokens_per_forward
             for arm in (ours(), fixed_window(), prompt_lookup())]  # fmt: skip
    assert rates[0] > 1.3 * rates[1]
    assert rates[1] > rates[2] > 1


def test_the_fixed_window_needs_its_whole_window():
    arm = fixed_window(window=3)
    arm.start([Draft("", np.array([1, 2, 3, 4, 5, 1, 2, 3, 9]), np.zeros(1, dtype=np.int64))])
    arm.push([1, 2])
    assert len(arm.propose()) == 1
    arm.push([3])
    tree = arm.propose()
    assert set(tree.tokens[tree.parents == 0][1:].tolist()) == {4, 9}
    arm.push([7])
    assert len(arm.propose()) == 1


def test_prompt_lookup_copies_behind_the_first_match():
    arm = prompt_lookup()
    arm.start([])
    arm.push([5, 6, 7, 8, 5, 6])
    assert arm.propose().tokens[1:].tolist() == [7, 8, 5, 6]
    arm.push([9, 5])
    assert arm.propose().tokens[1:4].tolist() == [6, 7, 8]


def test_an_empty_text_is_an_error():
    with pytest.raises(UserError, match="empty"):
        simulate([Replay("blank.png", [], 0, [])], ours())


@pytest.mark.slow
@pytest.mark.parametrize(("drafts", "least"), [("boxes", 4.0), ("wheels", 3.6)])
def test_the_demo_pages_reach_their_targets(drafts, least, tmp_path):
    from primum.cli import main

    demo_pages = Path(os.environ.get("PRIMUM_DATA", "../shared/data")) / "omnidocbench_demo"
    if not demo_pages.is_dir():
        pytest.skip("the demo pages are not here")
    out = tmp_path / "figures.json"
    main([
        "bench", "parsing", "simulate", str(demo_pages / "OmniDocBench_demo.json"),
        "--images", str(demo_pages / "images"), "--drafts", drafts,
        "--lines", str(tmp_path.parent / "lines.json"), "-o", str(out),
    ])  # fmt: skip
    figures = json.loads(out.read_text())
    assert figures["ours"]["tokens"] == 23386
    assert figures["ours"]["mean_nodes"] <= 48
    assert figures["ours"]["tokens_per_forward"] >= least
    peer = figures["fixed window (paper)"]["tokens_per_forward"]
    assert figures["ours"]["tokens_per_forward"] >= 1.9 * peer
