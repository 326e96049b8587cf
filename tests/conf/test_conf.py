"""Configs are code: every name they mention exists, every choice composes and can be built."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from primum import conf_dir
from primum.entry.choices import names, summary
from primum.entry.keys import constructor_arguments

CONF = conf_dir()
EXPERIMENTS = list(names("experiment", [CONF]))
BENCHMARKS = list(names("benchmark", [CONF]))
TRAINERS = list(names("trainer", [CONF]))
FILES = {path.relative_to(CONF).as_posix(): path for path in sorted(CONF.rglob("*.yaml"))}
NOT_ON_CPU = ("gpu", "fsdp")


def composed(entry: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(entry, ["run_id=now", "paths.output=here", *overrides])


def built(node: Any) -> Iterator[dict[str, Any]]:
    """Every node that names a class."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from built(child)


def fits(node: dict[str, Any]) -> None:
    """The class exists and takes what the config gives it."""
    get_object(node["_target_"])
    taken = constructor_arguments(node["_target_"])
    given = {key for key in node if not key.startswith("_")}
    assert taken is None or given <= taken, f"{node['_target_']} takes no {given - taken}"


@pytest.mark.parametrize("file", FILES)
def test_every_target_exists(file: str) -> None:
    for node in built(OmegaConf.to_container(OmegaConf.load(FILES[file]))):
        get_object(node["_target_"])


@pytest.mark.parametrize("file", FILES)
def test_every_file_says_what_it_is_for(file: str) -> None:
    assert summary(FILES[file]), f"{file} opens with no comment for people"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_and_its_parts_fit(experiment: str) -> None:
    cfg = composed("train", f"+experiment={experiment}")
    assert cfg.name == experiment
    for node in built(OmegaConf.to_container(cfg, resolve=True)):
        fits(node)
    assert cfg.benchmark is None or cfg.benchmark in BENCHMARKS
    instantiate(cfg.data, _convert_="all")  # reads nothing before it is set up


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.seconds
def test_a_benchmark_composes_and_its_parts_fit(benchmark: str) -> None:
    cfg = composed("evaluate", f"+benchmark={benchmark}", "checkpoint=any")
    assert cfg.name
    for node in built(OmegaConf.to_container(cfg, resolve=True)):
        fits(node)


@pytest.mark.parametrize(
    ("experiment", "trainer"),
    [
        *itertools.product([e for e in EXPERIMENTS if e.endswith("/quickstart")], TRAINERS),
        *itertools.product(EXPERIMENTS, ("gpu", "deepspeed_zero3_offload")),
    ],
)
@pytest.mark.seconds
def test_trainers_compose_with_experiments(experiment: str, trainer: str) -> None:
    cfg = composed("train", f"+experiment={experiment}", f"trainer={trainer}")
    assert cfg.trainer._target_ == "lightning.Trainer"
    OmegaConf.to_container(cfg.trainer, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("trainer", [name for name in TRAINERS if name not in NOT_ON_CPU])
def test_a_trainer_can_be_built_on_a_cpu(trainer: str, tmp_path: Path) -> None:
    if trainer.startswith("deepspeed"):
        pytest.importorskip("deepspeed")
    cfg = composed("train", f"trainer={trainer}", "trainer.accelerator=cpu", "trainer.devices=1")
    cfg.trainer.default_root_dir = str(tmp_path)
    made = instantiate(cfg.trainer, logger=False)
    if trainer.startswith("deepspeed"):
        stage = int(trainer.removeprefix("deepspeed_zero")[0])
        assert made.strategy.config["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize(
    ("group", "choice"),
    [(group, choice) for group in ("callbacks", "logger") for choice in names(group, [CONF])],
)
def test_callbacks_and_loggers_are_mappings_of_parts(group: str, choice: str) -> None:
    cfg = composed("train", f"{group}={choice}", "name=a/b")
    for node in built(OmegaConf.to_container(cfg[group], resolve=True)):
        fits(node)
    assert not any(OmegaConf.is_list(cfg[name]) for name in ("callbacks", "logger"))


@pytest.mark.parametrize("debug", names("debug", [CONF]))
def test_debug_modes_compose(debug: str) -> None:
    assert composed("train", f"+debug={debug}").trainer


def test_early_stopping_watches_what_the_checkpoint_watches() -> None:
    cfg = composed(
        "train", "callbacks=early_stopping", "callbacks.early_stopping.monitor=val/accuracy",
        "callbacks.early_stopping.mode=max",
    )  # fmt: skip
    made = {name: instantiate(cfg.callbacks[name]) for name in ("checkpoint", "early_stopping")}
    assert made["checkpoint"].monitor == made["early_stopping"].monitor == "val/accuracy"
    assert made["checkpoint"].mode == made["early_stopping"].mode == "max"


def test_no_experiment_is_in_the_defaults_list() -> None:
    for entry in ("train", "evaluate"):
        listed = OmegaConf.to_container(OmegaConf.load(CONF / f"{entry}.yaml"))["defaults"]
        groups = {group for item in listed if isinstance(item, dict) for group in item}
        assert not groups & {"experiment", "benchmark", "debug", "hparams_search"}


def test_deterministic_reaches_the_trainer(tmp_path: Path) -> None:
    cfg = composed("train", "deterministic=true", "trainer=cpu", f"paths.output={tmp_path}")
    assert cfg.trainer.deterministic is True
