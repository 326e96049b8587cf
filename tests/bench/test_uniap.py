"""`primum bench uniap` on small grids: its rungs give UniAP's labels, its counts are right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from primum.bench.uniap_fixtures import NAMES, load, sized
from primum.bench.uniap_work import floor_seconds, work
from primum.cli import main

SMALL = ["--grid", "12", "--channels", "32", "--turns", "2", "--threads", "1"]
TINY_VIT = ["--backbone", "vit_tiny_patch16_224", "--patch", "16", "--grid", "4"]


def test_one_command_measures_every_rung(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ["bench", "uniap", *SMALL, "--features", "coffee", "--slow-turns", "1"]
    assert main([*words, "--at-least", "0", "-o", str(out)]) == 0
    made = json.loads(out.read_text())
    assert made["environment"]["threads"] == 1 and made["command"].startswith("primum ")
    rungs = {row["setting"]: set(row["ratios"]) for row in made["rows"]}
    assert rungs["author_code"] == {"scipy", "dense", "greedy"}
    assert rungs["paper"] == {"scipy", "dense", "maskcut"}
    for row in made["rows"]:
        assert len(row["supernodes"]) == len(row["work"]) == 5
        assert all(share > 0.99 for share in row["agreement"].values())
        assert row["times"]["primum"]["low"] <= row["times"]["primum"]["high"]
        assert row["roofline"] is None  # nobody has published a processor's peaks


@pytest.mark.parametrize(
    "within", ["vit", "pictures", pytest.param("step", marks=pytest.mark.slow)]
)
def test_uniap_is_measured_within_what_surrounds_it(within: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ["bench", "uniap", "--within", within, *SMALL, *TINY_VIT, "--features", "coffee"]
    assert main([*words, "-o", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert all(time["ms"] > 0 for time in row["times"].values())
    if within == "pictures":
        assert sum(row["share"].values()) == pytest.approx(1)
        hours = 1_281_167 / row["pictures a second"] / 3600
        assert row["hours for ImageNet-1k"] == pytest.approx(hours)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "uniap", "--device", "cuda"]) != 0
    assert "No CUDA device is here" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_another_size_keeps_every_cosine(name: str) -> None:
    features = load(name).float()
    large = sized(features, 64, 768)
    assert large.shape == (1, 64, 64, 768)
    one, other = (f / f.norm(dim=-1, keepdim=True) for f in (features, large[:, 8:56, 8:56]))
    torch.testing.assert_close(
        (one[:, 1:] * one[:, :-1]).sum(-1), (other[:, 1:] * other[:, :-1]).sum(-1),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    assert sized(features, 20, 384).shape == (1, 20, 20, 384)


def test_work_is_counted_from_the_supernodes() -> None:
    halves = torch.eye(3)[torch.tensor([0, 0, 1, 2])].expand(1, 2, 4, 3)
    one, two = work(halves, thresholds=(0.9, 0.3), similarity="feature", pooling="sum")
    assert (one.supernodes, one.pairs, one.asked, one.pooled) == (8, 10, 0, 3)
    assert (two.supernodes, two.pairs, two.pooled) == (3, 2, 0)
    assert one.flops == 2 * 3 * 10 and two.flops == 2 * 3 * 2
    paper = work(halves, thresholds=(0.9,), semantic=True, max_semantic=2)[0]
    assert (paper.asked, paper.pooled, paper.chosen) == (4 + 2, 3, 2)
    pairs, votes, semantic = 10 + 6 * 8, 2 * 3 * 8, 2 * (2 + 8)
    assert paper.flops == 2 * 3 * (pairs + votes + semantic)
    seconds = floor_seconds([paper], "NVIDIA H100 80GB HBM3")
    assert seconds == pytest.approx(max(paper.flops / 989e12, paper.bytes / 3.35e12))
    assert floor_seconds([paper], "AMD EPYC") is None
    assert np.isfinite(paper.bytes)
