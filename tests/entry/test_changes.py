"""What differs between the run that is resumed and the one that resumes it."""

from pathlib import Path

import pytest

import primum
from primum.entry.changes import ABSENT, changes, show

SAVED = """# primum 0.0.9
seed: 0
resume: null
run_id: then
paths: {output: /runs/then}
trainer: {max_epochs: 1, old: true}
callbacks: {checkpoint: {dirpath: /runs/then/checkpoints}}
"""
NOW = {
    "seed": 0,
    "resume": "last",
    "run_id": "now",
    "paths": {"output": "/runs/now"},
    "trainer": {"max_epochs": 5, "new": []},
    "callbacks": {"checkpoint": {"dirpath": "/runs/now/checkpoints"}},
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(SAVED)
    return file


def test_changed_added_and_dropped_settings_are_found_and_nothing_else(saved: Path) -> None:
    found = changes(saved, NOW)
    assert found.version == "0.0.9"
    assert found.settings == {
        "trainer.max_epochs": (1, 5),
        "trainer.new": (ABSENT, []),
        "trainer.old": (True, ABSENT),
    }


def test_they_are_shown_with_both_versions(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(changes(saved, NOW))
    told = capsys.readouterr().err
    assert "0.0.9" in told and primum.__version__ in told
    assert "trainer.max_epochs" in told and "run_id" not in told


def test_the_same_config_of_the_same_version_is_not_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"# primum {primum.__version__}\nseed: 0\n")
    show(changes(file, {"seed": 0}))
    assert capsys.readouterr().err == ""
