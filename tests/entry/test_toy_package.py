"""Somebody's own package and conf, outside the repository: trained, saved and evaluated by name."""

import json
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.process


def test_a_package_outside_the_repository_trains_and_is_evaluated_by_name(
    train_here, call, outputs: Path
) -> None:
    trained = train_here("experiment=mylab/line", "logger=csv", "trainer.max_epochs=20")
    assert trained.returncode == 0, trained.stderr
    (told,) = [line for line in trained.stdout.splitlines() if line.startswith("next: ")]
    python, script, *words = shlex.split(told.removeprefix("next: "))
    assert python == "python" and Path(script).name == "evaluate.py"
    assert "benchmark=mylab/rising" in words  # the experiment names it

    done = call("evaluate", *words)  # the very command the run printed
    assert done.returncode == 0, done.stderr
    (file,) = outputs.rglob("report.json")
    report = json.loads(file.read_text())
    assert file.relative_to(outputs).parts[:2] == ("evaluate", "mylab-rising")
    assert (file.parent / "report.html").is_file()
    assert "close" in json.dumps(report["scores"])
    answers = [
        json.loads(line) for part in file.parent.rglob("part-*.jsonl") for line in part.open()
    ]
    close = [abs(float(row["answer"]) - (2 * int(row["case"]) - 1)) < 0.5 for row in answers]
    assert close == [True, True, True]  # 20 epochs find the line; a fresh one does not

    untrusted = [word for word in words if not word.startswith("trusted_modules")]
    refused = call("evaluate", *untrusted)
    assert refused.returncode == 1
    assert "mylab" in refused.stderr and "trusted_modules" in refused.stderr
    assert "Traceback" not in refused.stderr
