"""Peers: each against a slower or closed form of itself, on one shape of answer."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from primum.segmentation.peers.felzenszwalb import Felzenszwalb
from primum.segmentation.peers.greedy import GreedyMerging, greedy_merging
from primum.segmentation.peers.maskcut import MaskCut, fiedler, maskcut
from primum.segmentation.peers.normalised_cut import (
    NormalisedCut,
    leading_eigenvectors,
    local_affinity,
)
from primum.segmentation.peers.peer import enlarged
from primum.segmentation.peers.slic import Slic
from primum.segmentation.peers.uniap import UniapSweep
from primum.segmentation.pictures import read_picture


class Colours:
    """Features that are a picture's colours, every fourth pixel."""

    def grid(self, image: np.ndarray) -> np.ndarray:
        found = image[2::4, 2::4].astype(np.float32) + 1
        return found / np.linalg.norm(found, axis=2, keepdims=True)

    def identity(self) -> dict[str, str]:
        return {"name": "colours"}


@pytest.fixture
def picture() -> np.ndarray:
    """48 x 64 with a red, a green and a blue part, slightly noisy."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = 220
    image[8:40, 8:28] = [10, 220, 10]
    image[8:40, 36:56] = [10, 10, 220]
    noise = np.random.default_rng(0).integers(0, 12, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def truth() -> np.ndarray:
    labels = np.zeros((48, 64), int)
    labels[8:40, 8:28], labels[8:40, 36:56] = 1, 2
    return labels


PEERS = [
    Felzenszwalb(scales=(50, 500), smallest=10),
    Slic(counts=(40, 6)),
    GreedyMerging(Colours(), (0.99, 0.8)),
    NormalisedCut(Colours(), (6, 3)),
    MaskCut(Colours(), 2, threshold=0.5),
    UniapSweep(Colours(), "author_code", (0.99, 0.8)),
]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: type(peer).__name__)
@pytest.mark.seconds
def test_a_peer_answers_with_full_partitions(peer, picture, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    Image.fromarray(picture).save(tmp_path / "one.png")

    class Case:
        files = {"image": tmp_path / "one.png"}  # noqa: RUF012

    (answer,) = peer.answer([Case()], None)
    partitions = answer["partitions"]
    assert partitions.shape == (2, 48, 64) and partitions.min() >= 0 and answer["seconds"] > 0
    agreed = max(
        sum(np.bincount(truth()[one == label]).max() for label in np.unique(one)) / one.size
        for one in partitions
    )
    assert agreed > 0.9, "three plain colours are told apart"
    assert (
        type(peer)(**{k: getattr(peer, k) for k in peer.settings()}).identity() == peer.identity()
    )


def by_search(features: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy merging by looking at every pair before every merge."""
    rows, columns, _ = features.shape
    labels = np.arange(rows * columns).reshape(rows, columns)
    sums = {n: features.reshape(rows * columns, -1)[n].astype(float) for n in range(rows * columns)}
    while True:
        pairs = set()
        for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
            pairs |= {
                tuple(sorted(p)) for p in zip(a.ravel(), b.ravel(), strict=True) if p[0] != p[1]
            }
        scored = [
            (sums[a] @ sums[b] / np.linalg.norm(sums[a]) / np.linalg.norm(sums[b]), a, b)
            for a, b in pairs
        ]
        if not scored or max(scored)[0] < threshold:
            return labels
        _, a, b = max(scored)
        labels[labels == b] = a
        sums[a] = sums[a] + sums.pop(b)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_merging_equals_a_full_search(seed: int) -> None:
    features = np.random.default_rng(seed).normal(0.3, 1, (5, 6, 4))
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    thresholds = (0.9, 0.6, 0.2)
    for threshold, found in zip(thresholds, greedy_merging(features, thresholds), strict=True):
        expected = by_search(features, threshold)
        pairs = set(zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True))
        assert len(pairs) == found.max() + 1 == len(np.unique(expected))


def test_local_affinity_is_the_dense_one_within_reach() -> None:
    features = np.random.default_rng(3).normal(size=(4, 5, 6))
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    flat, where = features.reshape(20, 6), np.argwhere(np.ones((4, 5)))
    near = np.abs(where[:, None] - where[None]).max(2) <= 2
    dense = np.exp((flat @ flat.T - 1) / 0.3) * near
    assert local_affinity(features, 0.3, 2).toarray() == pytest.approx(dense)


def test_eigenvectors_solve_the_normalised_problem() -> None:
    features = np.random.default_rng(4).normal(0.5, 1, (4, 5, 6))
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    flat = features.reshape(20, 6)
    affinity = np.exp((flat @ flat.T - 1) / 0.5)
    scale = 1 / np.sqrt(affinity.sum(1))
    values = np.linalg.eigvalsh(scale[:, None] * affinity * scale)[::-1][:4]
    found = leading_eigenvectors(features, 4, 0.5, None)
    own = scale[:, None] * affinity * scale @ found
    assert np.linalg.norm(own - found * values, axis=0) == pytest.approx(0, abs=1e-3)


def test_both_solvers_find_the_same_cut(picture: np.ndarray) -> None:
    features = Colours().grid(picture)
    one, other = (maskcut(features, 2, 0.5, solver) for solver in ("lanczos", "dense"))
    assert len(one) == len(other) == 2
    for mine, theirs in zip(one, other, strict=True):
        assert (mine == theirs).all()
    flat = features.reshape(-1, 3).astype(float)
    affinity = np.where(flat @ flat.T > 0.5, 1.0, 1e-5)
    fast, slow = fiedler(affinity, "lanczos"), fiedler(affinity, "dense")
    assert abs(fast @ slow / np.linalg.norm(fast) / np.linalg.norm(slow)) == pytest.approx(1)


def test_labels_are_enlarged_without_gaps() -> None:
    labels = np.arange(6).reshape(2, 3)
    assert enlarged(labels, 4, 6).tolist() == np.kron(labels, np.ones((2, 2), int)).tolist()
    odd = enlarged(labels, 7, 10)
    assert odd.shape == (7, 10) and np.bincount(odd.ravel()).min() >= 9
    assert enlarged(labels, 1, 1).tolist() == [[0]]


def test_a_uniap_sweep_is_nested(picture: np.ndarray) -> None:
    levels = UniapSweep(Colours(), "recommended", (0.999, 0.9, 0.3)).group(Colours().grid(picture))
    for fine, coarse in itertools.pairwise(levels):
        pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
        assert len(pairs[0]) == len(np.unique(pairs[0]))


# pictures as people have them


def test_pictures_of_any_kind_become_upright_rgb(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    colour = draw.integers(0, 255, (12, 20, 3), np.uint8)
    turned = Image.fromarray(np.rot90(colour, 1).copy())  # stored lying, its tag says so
    exif = Image.Exif()
    exif[274] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert (read_picture(tmp_path / "turned.png") == colour).all()
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    assert (read_picture(tmp_path / "grey.png") == colour[..., :1]).all()
    deep = (np.arange(240).reshape(12, 20) * 256).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png").dtype == np.uint8
    assert read_picture(tmp_path / "deep.png").max() == 255
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "print.tif")
    assert np.abs(read_picture(tmp_path / "print.tif").astype(int) - colour).max() <= 2
    clear = np.dstack([colour, np.zeros((12, 20), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all()
    Image.fromarray(colour[:1, :1]).save(tmp_path / "dot.png")
    assert read_picture(tmp_path / "dot.png").shape == (1, 1, 3)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    from primum.errors import UserError

    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("no")
    for name in ("torn.png", "text.jpg", "absent.png"):
        with pytest.raises(UserError, match=name):
            read_picture(tmp_path / name)


def test_torch_is_seeded_nowhere() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    NormalisedCut(Colours(), (3, 2)).group(np.eye(3)[np.arange(20).reshape(4, 5) % 3])
    assert torch.equal(before, torch.get_rng_state())
