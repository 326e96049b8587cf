"""Union-find under any order of its threads.

Triton's interpreter runs one program after another, so it cannot show a race. Here every lane of
`hook_kernel` is a coroutine that yields before each access to memory; a random scheduler picks who
goes next, and plain loads may return any value the place has held (a stale cache).
"""

import random
from collections.abc import Generator

import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from primum_kernels.agglomeration import grid_edges

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Memory:
    """Parents of nodes and all they have been; atomics see the present, loads the past too."""

    def __init__(self, nodes: int, dice: random.Random) -> None:
        self.past = [[node] for node in range(nodes)]
        self.dice = dice

    def load(self, place: int) -> int:
        return self.dice.choice(self.past[place])

    def atomic_min(self, place: int, value: int) -> int:
        found = self.past[place][-1]
        self.past[place].append(min(found, value))
        return found


def find(memory: Memory, node: int) -> Generator[None, None, int]:
    while True:
        yield
        above = memory.load(node)
        if above == node:
            return node
        assert above < node, "a parent lies above its child"
        node = above


def hook(memory: Memory, one: int, other: int) -> Generator[None, None, None]:
    """One lane of `hook_kernel`, step for step."""
    while True:
        one = yield from find(memory, one)
        other = yield from find(memory, other)
        low, high = min(one, other), max(one, other)
        if low == high:
            return
        yield
        found = memory.atomic_min(high, low)
        if found == high:
            return
        one, other = found, low


def run_in_random_order(nodes: int, edges: list[tuple[int, int]], seed: int) -> list[int]:
    dice = random.Random(seed)
    memory = Memory(nodes, dice)
    lanes = [hook(memory, *edge) for edge in edges]
    steps = 0
    while lanes:
        lane = dice.randrange(len(lanes))
        steps += 1
        assert steps < 2000 * (len(edges) + 1), "no end in sight"
        try:
            next(lanes[lane])
        except StopIteration:
            lanes[lane] = lanes[-1]
            lanes.pop()
    roots = []
    for node in range(nodes):  # `flatten_kernel` runs later and sees the present
        while memory.past[node][-1] != node:
            node = memory.past[node][-1]
        roots.append(node)
    return roots


def least_of_component(nodes: int, edges: list[tuple[int, int]]) -> list[int]:
    one, other = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_matrix(([1] * len(edges), (one, other)), (nodes, nodes))
    label = connected_components(graph, directed=False)[1].tolist()
    return [label.index(mine) for mine in label]


@pytest.mark.parametrize("seed", range(60))
def test_every_interleaving_ends_at_the_components(seed: int) -> None:
    dice = random.Random(seed)
    kind = seed % 4
    if kind == 0:  # a random graph, edges repeated
        nodes = dice.randrange(2, 14)
        edges = [(dice.randrange(nodes), dice.randrange(nodes)) for _ in range(dice.randrange(25))]
    elif kind == 1:  # a path in falling order: the longest chains of pointers
        nodes = dice.randrange(2, 20)
        edges = [(node, node - 1) for node in range(nodes - 1, 0, -1)]
    elif kind == 2:  # a star whose centre is the highest node: everybody hooks the same place
        nodes = dice.randrange(3, 14)
        edges = [(nodes - 1, leaf) for leaf in range(nodes - 1)]
    else:  # a grid with holes
        nodes = 16
        edges = [tuple(pair) for pair in grid_edges(4, 4).T.tolist() if dice.random() < 0.7]
    for order in range(20):
        found = run_in_random_order(nodes, edges, 1000 * seed + order)
        assert found == least_of_component(nodes, edges)


def test_the_model_would_see_a_plain_store() -> None:
    """With a store in place of the atomic minimum some order goes wrong, so the model has teeth."""

    class Careless(Memory):
        def atomic_min(self, place: int, value: int) -> int:
            self.past[place].append(value)
            return place

    edges = [(5, leaf) for leaf in range(5)]
    wrong = 0
    for seed in range(50):
        dice = random.Random(seed)
        memory = Careless(6, dice)
        lanes = [hook(memory, *edge) for edge in edges]
        while lanes:
            lane = dice.randrange(len(lanes))
            try:
                next(lanes[lane])
            except StopIteration:
                lanes.pop(lane)
        wrong += sum(past[-1] == node for node, past in enumerate(memory.past)) != 1
    assert wrong


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_a_thousand_graphs_twenty_times_on_the_device() -> None:
    from tests.kernels.scenes import comb, spiral

    from primum_kernels.components import unite

    draw = torch.Generator().manual_seed(0)
    pairs = grid_edges(24, 31).to(torch.int32)
    kept = torch.rand(1000, pairs.shape[1], generator=draw) < torch.rand(1000, 1, generator=draw)
    cases = [(24 * 31, pairs, kept)]
    for maze in (spiral(63), comb(64)):
        board = torch.from_numpy(maze).argmax(-1).flatten()
        side = maze.shape[0]
        edges = grid_edges(side, side)
        cases.append(
            (side * side, edges.to(torch.int32), (board[edges[0]] == board[edges[1]])[None])
        )
    for nodes, edges, flags in cases:
        expected = torch.tensor(
            [least_of_component(nodes, edges[:, one].T.tolist()) for one in flags],
            dtype=torch.int32,
        )
        root = torch.arange(nodes, dtype=torch.int32).expand(len(flags), -1).contiguous().cuda()
        similar = torch.where(flags, 0.5, -4.0).cuda()
        for _ in range(20):
            assert torch.equal(unite(root, edges.cuda(), similar).cpu(), expected)
