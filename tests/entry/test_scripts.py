"""What the scripts say before anything is trained."""

import shutil
import time

import pytest
import yaml

pytestmark = pytest.mark.process

LINE = "experiment=mylab/line"


@pytest.mark.parametrize("script", ["train", "evaluate"])
def test_help_lists_what_can_be_chosen_at_once(call, script: str) -> None:
    start = time.perf_counter()
    done = call(script, "--help", "--config-dir", "my/conf")
    assert time.perf_counter() - start < 2.5
    assert done.returncode == 0
    assert "safety_quick" in done.stdout and "deepspeed_zero3_offload" in done.stdout
    if script == "train":
        assert "mylab/line" in done.stdout and "A line through points" in done.stdout


@pytest.mark.parametrize("script", ["train", "evaluate"])
def test_a_bare_call_says_the_same_and_counts_as_wrong_usage(call, script: str) -> None:
    done = call(script)
    assert done.returncode == 2 and "usage:" in done.stdout


@pytest.mark.parametrize("spelling", ["experiment=mylab/line", "+experiment=mylab/line"])
def test_an_experiment_wins_over_groups_and_typed_keys_win_over_it(train, spelling: str) -> None:
    done = train(spelling, "trainer=gpu", "trainer.max_epochs=7", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    cfg = yaml.safe_load(done.stdout)
    assert cfg["trainer"]["accelerator"] == "cpu"  # the experiment's, not trainer=gpu's
    assert cfg["trainer"]["precision"] == "bf16-mixed"  # the group's, not the default's
    assert cfg["trainer"]["max_epochs"] == 7  # typed


def test_debug_wins_over_the_experiment_wherever_it_was_typed(train) -> None:
    cfg = yaml.safe_load(train("debug=overfit", LINE, "--cfg", "job").stdout)
    assert cfg["trainer"]["overfit_batches"] == 1 and cfg["trainer"]["max_epochs"] == 20


def test_the_deepspeed_launchers_leftover_and_odd_file_names_are_read(train) -> None:
    done = train("--local_rank=0", LINE, "resume=runs/epoch=3.ckpt", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["resume"] == "runs/epoch=3.ckpt"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["experiment=mylab/lin"], "experiment `mylab/lin`\n  remedy: did you mean `mylab/line`"),
        (["mylab/line"], "did you mean `+experiment=mylab/line`"),
        ([LINE, "trainer=dpd"], "did you mean `ddp`"),
        ([LINE, "trainer.max_epoch=3"], "did you mean `trainer.max_epochs`"),
        ([LINE, "lr=0.1"], "did you mean `module.optimizer.lr`"),
        ([LINE, "trainer.overfit_batches=2"], "+trainer.overfit_batches=2"),
        ([LINE, "+trainer.max_epoch=3"], "did you mean `max_epochs`"),
        ([LINE, "+sede=1"], "did you mean `seed`"),
        (["+experimnt=mylab/line"], "did you mean `experiment`"),
        (["trainer=cpu"], "No experiment was chosen"),
        ([LINE, "resume=last"], "no checkpoint"),
        ([LINE, "seed=a=b"], "quote"),
        ([LINE, "module.optimizer=[1]"], "~module.optimizer +module.optimizer="),
        ([LINE, "module._target_=mylab.lines.Lin"], "did you mean `mylab.lines.Line`"),
        ([LINE, "data._target_=nolab.Points"], "No module named 'nolab'"),
        ([LINE, "data.fail=user"], "missing\n  where:  points.csv, row 3\n  remedy: draw some"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_error_and_leaves_nothing(train_here, outputs, words, told) -> None:
    done = train_here(*words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not outputs.exists() or not any(path.is_file() for path in outputs.rglob("*"))


def test_the_traceback_is_there_for_the_asking(train) -> None:
    done = train("experiment=mylab/lin")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    done = train("experiment=mylab/lin", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_sweep_whose_strategy_starts_ranks_is_refused_once(train) -> None:
    done = train(
        "-m", LINE, "seed=1,2", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"
    )
    assert done.returncode == 1
    assert done.stderr.count("A sweep (-m) cannot start ranks by itself") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["benchmark=safety_quik"], "did you mean `safety_quick`"),
        (["benchmark=safety_quick"], "exactly one candidate, not none"),
        (["benchmark=safety_quick", "checkpoint=a", "endpoint=b"], "not checkpoint and endpoint"),
        (["checkpoint=a"], "No benchmark was chosen"),
        (["benchmark=safety_quick", "checkpoint=a", "limits=3"], "did you mean `limit`"),
        (["benchmark=safety_quick", "checkpoint=a", "+foo=3"], "nothing reads `foo`"),
    ],
)
def test_evaluate_tells_mistakes_alike(call, outputs, words, told) -> None:
    done = call("evaluate", *words)
    assert done.returncode == 1
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_machines_habits_win_over_defaults_and_lose_to_the_experiment(
    call, lab, tmp_path
) -> None:
    shutil.copytree(lab / "my" / "conf", tmp_path / "conf")
    habits = tmp_path / "conf" / "local" / "default.yaml"
    habits.parent.mkdir()
    habits.write_text("# @package _global_\ntrainer: {accelerator: gpu, precision: 16-mixed}\n")
    done = call("train", "--config-dir", str(tmp_path / "conf"), LINE, "--cfg", "job")
    trainer = yaml.safe_load(done.stdout)["trainer"]
    assert trainer["precision"] == "16-mixed"
    assert trainer["accelerator"] == "cpu"  # the experiment's
