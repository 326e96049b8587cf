"""`primum bench bsds` on tiny pictures: one table, choices made on train alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.benchmarks import pictures

from primum.bench.bsds import Rows, figures, table
from primum.cli import main

METHODS = ["uniap:recommended", "uniap:paper", "greedy", "slic"]


@pytest.mark.seconds
def test_one_command_makes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pictures.bsds(tmp_path / "bsds")
    words = [
        "bench", "bsds", "--data", str(data), "--backbone", "vit_tiny_patch16_224",
        "--weights", "random", "--layer", "tokens", "--size", "64", "--methods", *METHODS,
        "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(words) == 0
    made = json.loads((tmp_path / "out" / "bsds.json").read_text())
    rows = {row["method"]: row for row in made["rows"] if "against" not in row}
    assert list(rows) == METHODS
    for row in rows.values():
        assert row["images"] == 3 and row["seconds"] > 0
        assert 0 < row["ODS"]["value"] <= row["OIS"]["value"] <= row["best"]["value"] <= 1
        assert row["mIoU@50"]["protocol"].startswith("order ")
    against = [row for row in made["rows"] if "against" in row]
    assert [row["against"] for row in against] == METHODS[1:]
    assert all(isinstance(row["holds"], bool) for row in against)
    shown = capsys.readouterr().out
    assert "uniap:recommended minus each other" in shown and "random weights" in shown


def rows(seed: int, better: str) -> Rows:
    draw = np.random.default_rng(seed)
    overlap = {name: draw.random((5, 3)) + (name == better) for name in ("area", "scale_0")}
    covered = draw.random((5, 2))
    return Rows(covered, covered.max(1), np.ones(5) * 2, overlap, np.ones(5) * 3, np.ones(5))


def test_the_order_of_masks_is_chosen_on_train() -> None:
    train, test = rows(0, better="scale_0"), rows(1, better="area")
    for name, (figure, order) in figures(train, test).items():
        if name.startswith("mIoU"):
            column = ("mIoU@10", "mIoU@50", "mIoU@100").index(name)
            assert order == "scale_0"
            value = figure(np.ones((1, 5)))[0]
            assert value == pytest.approx(test.overlap["scale_0"][:, column].mean() / 3)


def test_a_method_is_no_better_than_itself() -> None:
    both = {"train": rows(0, "area"), "test": rows(1, "area")}
    _, made = table({"uniap:recommended": both, "greedy": both})
    gap = made[-1]
    assert gap["against"] == "greedy" and gap["holds"]
    assert gap["ODS"]["value"] == gap["ODS"]["low"] == 0.0
