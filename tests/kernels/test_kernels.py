"""Each Triton kernel against its definition, on shapes that divide by nothing."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from tests.kernels.scenes import comb, smooth, spiral
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from primum_kernels import components, segments, semantic, similarity, vote
from primum_kernels.agglomeration import agglomerate, grid_edges, tie_hash

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the interpreter multiplies the bits of bfloat16 as if they were integers
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16


def test_every_launch_says_how_products_are_rounded() -> None:
    """A fused multiply-add rounds once instead of twice, and compilers differ in when they fuse."""
    launched = set()
    for file in Path(components.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
                named = {word.arg: word.value for word in node.keywords}
                assert ast.unparse(named["enable_fp_fusion"]) == "False", f"{file}:{node.lineno}"
                launched.add(ast.unparse(node.func.value))
    modules = (components, segments, semantic, similarity, vote)
    assert launched == {name for one in modules for name in vars(one) if name.endswith("_kernel")}


def tree(batch: int, tokens: int, seed: int) -> Tensor:
    """Random partitions, each token pointing at the least of its set."""
    draw = torch.Generator().manual_seed(seed)
    group = torch.randint(0, max(1, tokens // 3), (batch, tokens), generator=draw)
    root = torch.full((batch, tokens), tokens).scatter_reduce(
        1, group, torch.arange(tokens).expand(batch, -1), "amin"
    )
    return root.gather(1, group).to(torch.int32).to(DEVICE)


def scipy_roots(root: Tensor, pairs: Tensor, kept: Tensor) -> Tensor:
    """Least token of each component, the sets of `root` joined by the kept pairs."""
    out = []
    for image in range(len(root)):
        one, other = pairs[:, kept[image]].cpu().numpy()
        own = np.arange(root.shape[1])
        rows = np.concatenate([one, own])
        columns = np.concatenate([other, root[image].cpu().numpy()])
        graph = coo_matrix((np.ones(len(rows)), (rows, columns)), (len(own), len(own)))
        label = connected_components(graph, directed=False)[1]
        least = np.full(label.max() + 1, len(own))
        np.minimum.at(least, label, own)
        out.append(torch.from_numpy(least[label]))
    return torch.stack(out).to(torch.int32)


@pytest.mark.parametrize(("height", "width"), [(1, 23), (17, 1), (9, 14), (1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.6, 1.0])
def test_components_equal_scipy(height: int, width: int, share: float) -> None:
    tokens, draw = height * width, torch.Generator().manual_seed(0)
    pairs = grid_edges(height, width).to(torch.int32)
    kept = torch.rand(2, pairs.shape[1], generator=draw) < share
    similar = torch.where(kept, 0.5, -4.0).to(DEVICE)
    for root in (torch.arange(tokens, dtype=torch.int32).expand(2, -1), tree(2, tokens, 1)):
        found = components.unite(root.to(DEVICE).contiguous(), pairs.to(DEVICE), similar)
        assert torch.equal(found.cpu(), scipy_roots(root, pairs, kept))
        assert torch.equal(found.cpu(), components.reference(root.cpu(), pairs, kept))


@pytest.mark.parametrize("scene", [spiral(13), comb(12)], ids=["spiral", "comb"])
def test_mazes_become_two_regions(scene: np.ndarray) -> None:
    features = torch.from_numpy(scene)[None].to(DEVICE)
    options = dict(thresholds=[0.5], similarity="feature", pooling="sum", min_area=1)
    found = agglomerate(features, **options, backend="triton")
    expected = agglomerate(features, **options, backend="torch")
    assert torch.equal(found.labels, expected.labels)
    assert int(found.counts) < 12


def test_ties_are_hashed_alike_on_the_device() -> None:
    tokens = 60
    pairs = grid_edges(6, 10).to(torch.int32).to(DEVICE)
    root = torch.arange(tokens, dtype=torch.int32, device=DEVICE)[None]
    similar = torch.full((1, pairs.shape[1]), 0.75, device=DEVICE)
    found = components.unite(root, pairs, similar, reciprocal=True)
    one, other = pairs.long().cpu()
    key = tie_hash(one, other)
    best = torch.zeros(tokens, dtype=torch.int64)
    best.scatter_reduce_(0, one, key, "amax").scatter_reduce_(0, other, key, "amax")
    kept = (key == best[one]) & (key == best[other])
    assert torch.equal(found.cpu(), components.reference(root.cpu(), pairs.cpu(), kept[None]))
    assert 10 < int(kept.sum()) < 40


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("weights", [None, (0.6, 0.4)])
def test_similarities_equal_their_definition(
    weights: tuple[float, float] | None, strict: bool
) -> None:
    height, width, channels, threshold = 5, 9, 70, 0.35 if weights is None else 0.62
    tokens = height * width
    token = torch.from_numpy(np.stack([smooth(height, width, channels, seed) for seed in (0, 1)]))
    token = normalize(token.flatten(1, 2), dim=2).to(DEVICE)
    root = tree(2, tokens, 3)
    pairs = grid_edges(height, width).to(torch.int32).to(DEVICE)
    area = torch.zeros_like(root).scatter_add_(1, root.long(), torch.ones_like(root))
    total = torch.zeros_like(token)
    total.scatter_add_(1, root.long()[..., None].expand(-1, -1, channels), token)
    feature = normalize(total, dim=2)
    active = torch.tensor([1, 1], dtype=torch.int32, device=DEVICE)
    found, passed = similarity.similarities(
        feature, total, area, token, root, pairs, active, threshold, weights, strict
    )
    mean = total / area.clamp(min=1)[..., None]
    for image in range(2):
        one, other = root[image].long()[pairs.long()]
        expected = similarity.reference(
            feature[image], mean[image], token[image], one, other, weights or (1.0, 0.0)
        )
        passing = (one != other) & (expected >= threshold)
        assert 0 < int(passing.sum()) < int((one != other).sum())
        assert int(passed[image]) == int(passing.sum())
        assert_close(found[image], torch.where(passing, expected, -4.0), atol=1e-5, rtol=1e-5)
    nothing, none = similarity.similarities(
        feature, total, area, token, root, pairs, 0 * active, threshold, weights, strict
    )
    assert float(nothing.max()) == -4
    assert int(none.sum()) == 0


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_merged_rows_are_added(deterministic: bool, dtype: torch.dtype) -> None:
    tokens, channels = 37, 70
    before = tree(2, tokens, 4)
    pairs = torch.tensor([[0, 5, 11, 30], [36, 17, 12, 2]], dtype=torch.int32, device=DEVICE)
    root = components.unite(before, pairs, torch.ones(2, 4, device=DEVICE))
    values = torch.randint(-9, 9, (2, tokens, channels), device=DEVICE).to(dtype)
    expected = segments.reference(values, before, root)
    segments.add_merged(values, before, root, deterministic)
    roots = root == torch.arange(tokens, device=DEVICE)
    assert torch.equal(values[roots], expected[roots])


def test_listed_rows_become_unit_length() -> None:
    draw = torch.Generator().manual_seed(0)
    wanted = (torch.rand(2, 150, generator=draw) < 0.3).to(DEVICE)
    values = torch.randn(2, 150, 70, generator=draw).to(DEVICE)
    rows, count = segments.collect(wanted)
    assert count.tolist() == wanted.sum(1).tolist()
    for image in range(2):
        listed = rows[image, : count[image]].sort().values
        assert listed.tolist() == wanted[image].nonzero().flatten().tolist()
    feature = torch.zeros_like(values)
    segments.unit_rows(values, rows, count, feature)
    assert_close(feature, torch.where(wanted[..., None], normalize(values, dim=2), 0.0))


@pytest.mark.parametrize("by_sum", [True, False])
@pytest.mark.parametrize("region", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
def test_votes_equal_their_definition(by_sum: bool, region: bool, dtype: torch.dtype) -> None:
    tokens, channels = 45, 37
    draw = torch.Generator().manual_seed(1)
    token = normalize(torch.randn(2, tokens, channels, generator=draw), dim=2).to(dtype).to(DEVICE)
    root = tree(2, tokens, 5)
    index = root.long()[..., None].expand(-1, -1, channels)
    area = torch.zeros_like(root).scatter_add_(1, root.long(), torch.ones_like(root))
    total = torch.zeros(2, tokens, channels, device=DEVICE).scatter_add_(1, index, token.float())
    alive = root == torch.arange(tokens, device=DEVICE)
    rows, count = segments.collect(alive)
    feature = torch.zeros_like(total)
    vote.vote(total, area, token, root, rows, count, feature, 0.07, by_sum, region)
    for image in range(2):
        roots = alive[image].nonzero().flatten()
        size = area[image, roots].float()
        expected = vote.reference(
            total[image, roots] / size[:, None], size, token[image].float(), 0.07, by_sum,
            root[image] == roots[:, None] if region else None,
        )  # fmt: skip
        close = {} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}
        assert_close(feature[image, roots], expected, **close)
    assert not feature[~alive].any()


@pytest.mark.parametrize("weights", [None, (0.6, 0.4)])
def test_semantic_groups_equal_their_definition(weights: tuple[float, float] | None) -> None:
    tokens, channels, threshold, strict = 40, 12, 0.45, False
    token = torch.from_numpy(smooth(5, 8, channels, 3))[None].flatten(1, 2)
    token = normalize(token, dim=2).to(DEVICE)
    root = torch.arange(tokens, dtype=torch.int32, device=DEVICE)[None]
    chosen = torch.arange(0, tokens, 2, device=DEVICE)[None]
    known = torch.tensor([18], dtype=torch.int32, device=DEVICE)
    found = semantic.semantic_roots(
        token, token, torch.ones_like(root), token, root, chosen, known, threshold, weights, strict
    )
    rows = chosen[0, :18]
    similar = semantic.reference(token[0, rows], token[0, rows] @ token[0].T, weights or (1.0, 0.0))
    one, other = (similar >= threshold).nonzero().T
    pairs = torch.stack([rows[one], rows[other]]).to(torch.int32)
    kept = torch.ones(1, pairs.shape[1], dtype=torch.bool)
    assert torch.equal(found.cpu(), scipy_roots(root.cpu(), pairs.cpu(), kept))
