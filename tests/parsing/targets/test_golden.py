"""Golden pages: written once, compared later, and what differs is named."""

import json
from dataclasses import replace

import pytest

from primum.checkpoints.commands import register
from primum.errors import UserError
from primum.parsing.targets import golden, verifying
from primum.parsing.targets.golden import GoldenRun, compared, same_tokens
from primum.parsing.targets.known import adapter_named, named
from primum.parsing.targets.tiny import make_tiny


def command(*words: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    arguments = parser.parse_args(["checkpoints", *words])
    return arguments.run(arguments)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "RECIPE", golden.Recipe(characters=(30, 60)))
        patch.setattr(verifying.verify, "__defaults__", ("auto", (1,), 48))
        for name in ("dots_ocr", "paddleocr_vl"):
            weights = make_tiny(name, root / name)
            file = root / f"{name}.json"
            found = command(
                "verify", f"parsing/{name}", "--golden", str(file), "--weights", str(weights),
                "--dtype", "float32",
            )  # fmt: skip
            assert found == 0
        yield root


def test_a_run_tells_keys_drafts_and_distance(written):
    run = GoldenRun.read(written / "dots_ocr.json")
    assert run.sound and run.parameters > 50_000 and run.dtype == "float32"
    (page,) = run.pages
    assert page.kind == "page" and len(page.tokens) == len(page.margins) == 48
    assert page.drafted and page.error > 0.5
    assert "does not read" in verifying.told_of(run)[-1]
    crops = GoldenRun.read(written / "paddleocr_vl.json").pages
    assert {"text"} <= {crop.kind for crop in crops} and all(crop.drafted for crop in crops)


def test_the_same_weights_agree_and_others_are_told(written, capsys):
    words = ["verify", "dots_ocr", "--golden", str(written / "dots_ocr.json"), "--dtype", "float32"]
    assert command(*words, "--weights", str(written / "dots_ocr")) == 0
    assert "the tokens are those of" in capsys.readouterr().out
    other = make_tiny("dots_ocr", written / "other", seed=1)
    assert command(*words, "--weights", str(other)) == 1
    told = capsys.readouterr().out
    assert "files of the model: model.safetensors" in told and "which led by" in told


def test_what_differs_is_named_cause_first(written):
    run = GoldenRun.read(written / "dots_ocr.json")
    (page,) = run.pages
    assert compared(run, run) == [] and same_tokens(run, run)
    prompt = replace(run, pages=[replace(page, prompt="x", tokens=[1])])
    assert "the prompt's tokens" in compared(run, prompt)[0] and not same_tokens(run, prompt)
    pixels = replace(run, pages=[replace(page, pixels="x")])
    assert "image processor" in compared(run, pixels)[0]
    changed = [*page.tokens[:9], page.tokens[9] + 1, *page.tokens[10:]]
    near = [*page.margins[:9], 1e-5, *page.margins[10:]]
    clear = [*page.margins[:9], 3.0, *page.margins[10:]]
    now = replace(run, pages=[replace(page, tokens=changed)])
    tied = replace(run, pages=[replace(page, margins=near)])
    assert same_tokens(tied, now) and "token 9 of 48" in compared(tied, now)[0]
    assert not same_tokens(replace(run, pages=[replace(page, margins=clear)]), now)
    assert not same_tokens(run, replace(run, pages=[]))


def test_missing_tensors_are_told(written, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(written / "dots_ocr", tmp_path / "cut")
    weights = load_file(folder / "model.safetensors")
    gone = "vision_tower.merger.ln_q.bias"
    del weights[gone]
    save_file(weights | {"stray": weights["model.norm.weight"].clone()},
              folder / "model.safetensors", {"format": "pt"})  # fmt: skip
    words = ["verify", "dots_ocr", "--golden", str(tmp_path / "new.json"), "--dtype", "float32"]
    assert command(*words, "--weights", str(folder)) == 1
    run = json.loads((tmp_path / "new.json").read_text())
    assert run["missing"] == [gone] and run["unexpected"] == ["stray"]


def test_the_command_makes_tiny_ones(tmp_path):
    assert command("tiny", str(tmp_path / "one"), "--architecture", "glm_ocr") == 0
    assert adapter_named(str(tmp_path / "one")).name == "glm_ocr"
    with pytest.raises(UserError, match="qwen3"):
        command("tiny", str(tmp_path / "two"), "--architecture", "poem")


def test_bad_input_is_told(tmp_path):
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(UserError, match="no golden pages"):
        GoldenRun.read(tmp_path / "no.json")
    with pytest.raises(UserError, match="no document model"):
        command("verify", "language/qwen3_0.6b", "--golden", str(tmp_path / "x.json"))


def test_names_lead_to_releases_and_directories_to_adapters(written):
    assert named("dots_ocr") == named("parsing/dots_ocr") == "dots-studio/dots.ocr"
    assert named("some/model") == "some/model"
    assert adapter_named("PaddlePaddle/PaddleOCR-VL").unit == "region"
    assert adapter_named(str(written / "dots_ocr")).name == "dots_ocr"
    assert adapter_named("some/model") is None
