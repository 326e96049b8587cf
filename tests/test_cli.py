"""The `primum` command: helpful, light to start, and without tracebacks for mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

from primum.cli import main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for command in ("checkpoints", "data", "compare", "bench", "doctor"):
        assert command in said


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "report.json"
    assert main(["compare", str(missing), str(missing)]) == 2
    said = capsys.readouterr().err
    assert str(missing) in said
    assert "Traceback" not in said


@pytest.mark.process
def test_starting_imports_nothing_heavy() -> None:
    heavy = (
        "import primum.cli, sys;"
        "print([m for m in ('torch', 'transformers', 'lightning') if m in sys.modules])"
    )
    child = subprocess.run(
        [sys.executable, "-c", heavy], capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == "[]"
