"""The scripts as a user runs them, on a model made in a second: train, evaluate, resume."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from primum.checkpoints.tiny import make_tiny

ROOT = Path(__file__).parents[1]
QUICK = ("trainer=cpu", "trainer.max_epochs=1", "logger=csv")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", "llama")


def command(tiny: Path, outputs: Path, *more: str) -> list[str]:
    return [
        sys.executable, str(ROOT / "train.py"), "+experiment=alignment/quickstart",
        f"model.name={tiny}", "model.dtype=float32", f"paths.outputs={outputs}", *QUICK, *more,
    ]  # fmt: skip


def run(words: list[str], run_id: str = "run", prefix: tuple[str, ...] = ()) -> str:
    environment = os.environ | {"PRIMUM_RUN_ID": run_id, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*prefix, *words], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def losses(outputs: Path, run_id: str = "run") -> dict[int, float]:
    """Loss by step, read from the run's own table."""
    folder = outputs / "alignment" / "quickstart" / run_id
    (table,) = folder.rglob("metrics.csv")
    with table.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("train/loss")]
    return {int(row["step"]): float(row["train/loss"]) for row in rows}


@pytest.mark.process
def test_train_evaluate_and_report_without_a_network(tiny: Path, tmp_path: Path) -> None:
    unshare = ("unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh")
    alone = unshare if shutil.which("unshare") and os.geteuid() == 0 else ()
    run(command(tiny, tmp_path, "trainer.limit_train_batches=4"), prefix=alone)
    trained = tmp_path / "alignment" / "quickstart" / "run"
    assert (trained / "model" / "adapter_model.safetensors").is_file()
    assert (trained / "manifest.yaml").is_file()
    evaluate = [
        sys.executable, str(ROOT / "evaluate.py"), "benchmark=safety_quick", "trainer=cpu",
        f"checkpoint={trained}", f"paths.outputs={tmp_path}", "limit=6",
        "benchmark.max_new_tokens=8",
    ]  # fmt: skip
    run(evaluate, prefix=alone)
    (report,) = tmp_path.glob("evaluate/*/*/*/report.json")
    content = json.loads(report.read_text())
    assert content["schema_version"] == 1
    assert len(content["cases"]) == 12
    page = report.with_suffix(".html").read_text()
    assert "135M demo: shows the loop, not a medical model" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "src=" not in page.replace('src="data:', "")


@pytest.mark.process
def test_a_killed_run_goes_on_with_the_same_losses(tiny: Path, tmp_path: Path) -> None:
    often = ("trainer.limit_train_batches=24", "trainer.accumulate_grad_batches=3",
             "callbacks.checkpoint.every_n_train_steps=2", "trainer.limit_val_batches=0",
             "data.num_workers=2", "trainer.log_every_n_steps=1")  # fmt: skip
    run(command(tiny, tmp_path / "whole", *often))
    whole = losses(tmp_path / "whole")
    assert len(whole) == 8

    words = command(tiny, tmp_path / "killed", *often)
    environment = os.environ | {"PRIMUM_RUN_ID": "run", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    folder = tmp_path / "killed" / "alignment" / "quickstart" / "run"
    deadline = time.monotonic() + 300
    while not list(folder.glob("checkpoints/*step000004*")) and time.monotonic() < deadline:
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "manifest.yaml").exists()

    run(command(tiny, tmp_path / "killed", *often, f"resume={folder}"), run_id="again")
    resumed = losses(tmp_path / "killed", "again")
    assert resumed
    assert min(resumed) >= 2  # from a checkpoint, not from the start
    assert resumed == {step: loss for step, loss in whole.items() if step in resumed}
    assert max(resumed) == max(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "trainer", ["ddp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3"]
)
def test_two_ranks_have_the_losses_of_one_process(tiny: Path, tmp_path: Path, trainer: str) -> None:
    common = ("trainer.limit_val_batches=0", "trainer.log_every_n_steps=1", "callbacks=default")
    run(
        command(tiny, tmp_path / "one", *common, "trainer.limit_train_batches=12",
                "trainer.accumulate_grad_batches=2")
    )  # fmt: skip
    two = [word for word in command(tiny, tmp_path / "two", *common) if word != "trainer=cpu"]
    run([*two, f"trainer={trainer}", "trainer.accelerator=cpu", "trainer.devices=2",
         "trainer.limit_train_batches=6"])  # fmt: skip
    one, both = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 6
    assert both.keys() == one.keys()
    assert all(abs(both[step] - one[step]) < 1e-4 for step in one)
