"""`primum checkpoints` by its flags: what it prints, and with what it exits."""

import pytest

from primum.checkpoints.resolve import resolve
from primum.cli import main


def test_tiny_makes_a_model_in_a_new_folder_only(tmp_path, capsys):
    out = str(tmp_path / "tiny")
    assert main(["checkpoints", "tiny", out, "--architecture", "gemma3", "--layers", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == out  # DeepSpeed may greet first
    assert resolve(out).kind == "full"
    assert main(["checkpoints", "tiny", out]) == 2
    assert "not empty" in capsys.readouterr().err


def test_verify_tells_whole_from_altered(adapter_run, tmp_path, capsys):
    import shutil

    run = shutil.copytree(adapter_run, tmp_path / "run")
    assert main(["checkpoints", "verify", str(run)]) == 0
    assert "have the SHA-256 of the manifest" in capsys.readouterr().out
    (run / "model" / "tokenizer.json").write_text("{}")
    assert main(["checkpoints", "verify", str(run)]) == 2
    error = capsys.readouterr().err
    assert "tokenizer.json" in error and "Traceback" not in error


def test_export_says_what_to_do_next(adapter_run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["checkpoints", "export", str(adapter_run), "-o", str(out), "--merge"]) == 0
    printed = capsys.readouterr().out
    assert "6 prompts, 6 answered to their end of turn" in printed
    assert f"check-served URL --golden {out / 'golden.json'}" in printed


@pytest.mark.parametrize("verb", ["verify", "export"])
def test_a_name_that_is_nothing_is_one_clear_error(verb, tmp_path, capsys):
    extra = ["-o", str(tmp_path / "out")] if verb == "export" else []
    assert main(["checkpoints", verb, str(tmp_path / "nothing"), *extra]) == 2
    assert "no manifest, directory or entry" in capsys.readouterr().err
