"""Pickled weights enter by one door: nothing is run, and what leaves is safetensors."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from primum.checkpoints.convert import convert, convert_known, read_pickled, state_of
from primum.checkpoints.resolve import resolve
from primum.cli import main
from primum.errors import UserError


class Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.system, ("touch exploded",)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_torch_files_leave_as_safetensors(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)
    shared = {"model": OrderedDict(a=weight, b=weight[:1], n=torch.tensor(3)), "iteration": 7}
    torch.save(shared, tmp_path / "one.pth")
    assert main(["checkpoints", "convert", "one.pth", "-o", "one.safetensors"]) == 0
    found = load_file(tmp_path / "one.safetensors")
    assert set(found) == {"a", "b", "n"} and torch.equal(found["a"], weight)


def test_detectron2_pickles_of_arrays_are_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for protocol in (2, 4):
        with (tmp_path / "r50.pkl").open("wb") as stream:
            pickle.dump({"model": {"stem.conv1.weight": array}, "matching_heuristics": True},
                        stream, protocol)  # fmt: skip
        state = convert("r50.pkl", "r50.safetensors")
        assert state["stem.conv1.weight"].tolist() == array.tolist()


@pytest.mark.parametrize("name", ["bad.pkl", "bad.pth"])
def test_code_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    content = {"model": {"a": torch.ones(1) if name.endswith("pth") else np.ones(1), "b": Bomb()}}
    if name.endswith("pth"):
        torch.save(content, name)
    else:
        Path(name).write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="more than weights") as caught:
        read_pickled(name)
    assert name in str(caught.value) and not Path("exploded").exists()


def test_parts_are_named(tmp_path: Path) -> None:
    torch.save({"student": {"a": torch.zeros(1)}, "teacher": {"a": torch.ones(1)}}, "full.pth")
    with pytest.raises(UserError, match="student"):
        convert("full.pth", "x.safetensors")
    assert convert("full.pth", "x.safetensors", "teacher")["a"] == 1
    with pytest.raises(UserError, match="no part"):
        convert("full.pth", "x.safetensors", "ema")


def test_what_holds_no_weights_is_said(tmp_path: Path) -> None:
    Path("torn.pth").write_bytes(b"PK\x03\x04 torn")
    for content in ([1], {}, {"model": {"epoch": 3}}):
        with pytest.raises(UserError, match="holds"):
            state_of(content)
    for file, words in (("torn.pth", "damaged"), ("absent.pth", "no such file")):
        with pytest.raises(UserError, match=words):
            read_pickled(file)
    torch.save({"a": torch.ones(1)}, "one.pth")
    with pytest.raises(UserError, match="safetensors"):
        convert("one.pth", "one.bin")


@pytest.mark.slow
def test_a_known_model_becomes_a_folder_that_a_benchmark_takes(tmp_path: Path) -> None:
    from tests.segmentation.released import layouts

    torch.save({"model": layouts.filled(layouts.cutler())}, "cutler.pth")
    folder, found = convert_known("cutler.pth", "cutler", "cutler")
    assert found.whole and str(found).startswith(
        f"{found.matched} matched, 0 missing, 0 unexpected"
    )
    checkpoint = resolve(folder)
    assert checkpoint.kind == "module" and checkpoint.manifest.level == "layout"
    module = checkpoint.build_module()
    state = layouts.filled(layouts.cutler())
    assert torch.equal(module.rpn.conv.weight, state["proposal_generator.rpn_head.conv.weight"])
    with pytest.raises(UserError, match="exists already"):
        convert_known("cutler.pth", "cutler", "cutler")
    torch.save({"model": layouts.filled(layouts.vit(depth=1))}, "dino.pth")
    with pytest.raises(UserError, match="layout of CutLER"):
        convert_known("dino.pth", "other", "cutler")
    assert not Path("other").exists()
