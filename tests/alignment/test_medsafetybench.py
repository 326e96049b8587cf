"""Real data, whole: train on MedSafetyBench's training file, evaluate on its 18 test files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from primum.checkpoints.tiny import make_tiny

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("PRIMUM_SHARED", ROOT.parent / "shared")) / "data"


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "medsafetybench").is_dir(), reason="MedSafetyBench is not here")
def test_a_model_trains_on_its_train_file_and_sits_all_its_test_files(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / "tiny", "llama")
    environment = os.environ | {"PRIMUM_DATA": str(DATA), "PRIMUM_RUN_ID": "run"}

    def script(*arguments: str) -> None:
        command = [sys.executable, *arguments, f"paths.outputs={tmp_path}", "trainer=cpu"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=800)

    script("train.py", "+experiment=alignment/medsafetybench", f"model.name={tiny}", "logger=none")
    run = tmp_path / "alignment" / "medsafetybench" / "run"
    script(
        "evaluate.py", "benchmark=medsafetybench", f"checkpoint={run}", "benchmark.max_new_tokens=4"
    )

    (report,) = (json.loads(file.read_text()) for file in tmp_path.glob("evaluate/**/report.json"))
    scores = report["scores"]
    refused = scores["refused_unsafe"] if isinstance(scores, dict) else scores[0]
    assert refused["n"] == 900
    assert 0 <= refused["low"] <= refused["value"] <= refused["high"] <= 1
