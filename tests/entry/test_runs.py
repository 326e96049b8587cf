"""Whole runs of the real script: one process, a resume, a sweep, a search, and several ranks."""

from pathlib import Path

import pytest
import torch
import yaml

pytestmark = pytest.mark.process

LINE = ("experiment=mylab/line", "logger=csv")


def runs(outputs: Path) -> list[Path]:
    return sorted((outputs / "mylab" / "line").iterdir())


def test_a_run_leaves_what_it_promises_and_can_be_resumed(train_here, outputs: Path) -> None:
    done = train_here(*LINE, "seed=3", "objective=val/loss")
    assert done.returncode == 0, done.stderr
    (run,) = runs(outputs)
    config = run / "config.yaml"
    assert config.read_text().startswith("# primum ")
    saved = yaml.safe_load(config.read_text())
    assert saved["seed"] == 3 and saved["run_id"] == run.name
    assert yaml.safe_load((run / "overrides.yaml").read_text())[0] == "logger=csv"
    manifest = yaml.safe_load((run / "manifest.yaml").read_text())
    assert manifest["run_id"] == run.name and manifest["name"] == "mylab/line"
    assert manifest["metrics"]["val/loss"] < 1
    assert (run / "metrics.csv").is_file() and (run / "model" / "model.safetensors").is_file()
    assert not [path for path in run.rglob("*") if "=" in path.name]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["tags"] == ["toy", "line"]  # a list, not a ListConfig
    assert f"checkpoint={run}" in done.stdout and "evaluate.py --config-dir my/conf" in done.stdout
    assert done.stdout.count("Seed set to 3") + done.stderr.count("Seed set to 3") == 1

    config.write_text(config.read_text().replace("# primum ", "# primum 0.0.1 was "))
    again = train_here(*LINE, "seed=3", "resume=last", "trainer.max_epochs=3")
    assert again.returncode == 0, again.stderr
    assert "0.0.1" in again.stderr and "trainer.max_epochs" in again.stderr
    assert "run_id" not in again.stderr and "dirpath" not in again.stderr
    resumed = next(path for path in runs(outputs) if path != run)
    names = [path.name for path in (resumed / "checkpoints").iterdir()]
    assert "epoch002-step000024.ckpt" in names  # the third epoch only

    taken = train_here(*LINE, f"run_id={run.name}")
    assert taken.returncode == 1 and "holds a run already" in taken.stderr
    assert config.exists()


def test_a_failed_job_and_an_exit_do_not_end_a_sweep(train_here, outputs: Path) -> None:
    done = train_here("-m", *LINE, "data.fail='',user,exit,bug", "data.rows=4", "callbacks=none")
    assert done.returncode == 1
    (sweep,) = (outputs / "sweeps").iterdir()
    finished = [path.parent.name for path in sweep.rglob("manifest.yaml")]
    assert finished == ["0"]
    assert (
        yaml.safe_load((sweep / "0" / "manifest.yaml").read_text())["run_id"] == f"{sweep.name}-0"
    )
    assert "3 of 4 jobs failed" in done.stderr
    summary = done.stderr.rpartition("jobs failed")[2]
    for told in ("The points are missing", "exited with 3", "a bug of ours"):
        assert told in summary


def test_a_search_survives_a_crash_and_goes_on_where_it_stopped(train, outputs: Path) -> None:
    words = (*LINE, "hparams_search=lr_sweep", "data.rows=4", "callbacks=none", "-m")
    words = (*words, "hparams_search.sampler._target_=optuna.samplers.GridSampler")
    words = (*words, "~hparams_search.sampler.seed", "data.fail=choice('',exit)")
    grid = "+hparams_search.sampler.search_space={data.fail:['',exit],module.optimizer.lr:[0.0001]}"
    first = train(*words, grid, "hparams_search.trials=2")
    assert first.returncode == 1 and "1 of 2 trials failed" in first.stderr
    folder = outputs / "searches" / "mylab" / "line" / "lr_sweep"
    assert len(list(folder.glob("trial-*/manifest.yaml"))) == 1
    assert yaml.safe_load((folder / "best.yaml").read_text())["data.fail"] == ""
    journal = (folder / "study.journal").read_text()

    again = train(*words, grid, "hparams_search.trials=2")  # nothing is left to do
    assert again.returncode == 1 and "best: " in again.stdout
    assert (folder / "study.journal").read_text().startswith(journal)
    assert len(list(folder.glob("trial-*"))) == 2


@pytest.mark.parametrize("trainer", ["ddp", "deepspeed_zero2"])
def test_lightnings_own_ranks_share_one_folder(train, outputs: Path, trainer: str) -> None:
    if trainer != "ddp":
        pytest.importorskip("deepspeed")
    done = train(*LINE, f"trainer={trainer}", "trainer.accelerator=cpu", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    (run,) = runs(outputs)
    assert yaml.safe_load((run / "manifest.yaml").read_text())["environment"]["processes"] == 2


def test_torchruns_ranks_share_one_folder_and_may_sweep(train, outputs: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    words = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.rows=8")
    done = train(*LINE, *words, "-m", "seed=1,2", launcher=launcher)
    assert done.returncode == 0, done.stderr
    (sweep,) = (outputs / "sweeps").iterdir()
    made = sorted(path.parent.name for path in sweep.glob("*/manifest.yaml"))
    assert made == ["0", "1"]


@pytest.mark.parametrize("debug", ["fdr", "limit"])
def test_debug_runs_keep_out_of_the_way(train_here, outputs: Path, debug: str) -> None:
    done = train_here(*LINE, f"debug={debug}")
    assert done.returncode == 0, done.stderr
    assert not (outputs / "mylab").exists()
    assert bool(list((outputs / "debug").glob("*/manifest.yaml"))) == (debug == "limit")
