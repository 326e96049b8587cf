"""Hyperparameter search: Optuna asks, a process of its own trains, the manifest answers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from primum.entry import ranks
from primum.entry.arguments import Arguments, group_of
from primum.errors import UserError
from primum.extras import require
from primum.files import atomic_write

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

TRIAL = "PRIMUM_TRIAL"  # set for the children: they train and do not search


class TrialFailed(Exception):
    """A trial that left no value of the objective."""


def split_space(typed: Arguments) -> tuple[Arguments, list[str]]:
    """Part the words that name a range of values from those that every trial shares."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    ranges = [w for w in typed.overrides if parser.parse_override(w).is_sweep_override()]
    shared = tuple(word for word in typed.overrides if word not in ranges)
    return Arguments(typed.flags, shared), ranges


def search(cfg: "DictConfig", typed: Arguments, ranges: list[str]) -> None:
    """Run trials until the study has as many as asked for; the same command goes on with it.

    Args:
        cfg: The composed config; its `hparams_search` says what to try.
        typed: The command line without `-m` and without ranges.
        ranges: `key=<range>` words that join, or replace, the ranges of the config.

    Raises:
        UserError: No objective, nothing to vary, or a trial that failed.
    """
    if ranks.started_outside():
        raise UserError(
            "A search starts its own processes", remedy="run it without torchrun, srun or deepspeed"
        )
    if cfg.objective is None:
        raise UserError("A search needs an objective", remedy="objective=val/loss, say")
    optuna = require("optuna", "search")
    space = {key: str(value) for key, value in cfg.hparams_search.space.items()}
    space |= {group_of(word): word.partition("=")[2] for word in ranges}
    if not space:
        raise UserError("Nothing to vary", remedy="type a range: key=interval(0.1,0.9)")
    distributions = {key: distribution(key, text) for key, text in space.items()}

    folder = Path(cfg.paths.output)
    study = _study(optuna, cfg, folder)
    finished = len(_finished(study))

    def objective(trial: "Trial") -> float:
        for key, values in distributions.items():
            _suggest(trial, key, values)
        print(f"\ntrial {trial.number} of {cfg.hparams_search.trials}: {trial.params}", flush=True)
        return _train(cfg, typed, trial, folder / f"trial-{trial.number:03d}")

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # failures are told below
    if (remaining := cfg.hparams_search.trials - finished) > 0:
        study.optimize(objective, n_trials=remaining, catch=(TrialFailed,))
    _show(study, cfg, folder)


def distribution(key: str, text: str) -> "BaseDistribution":
    """An Optuna distribution from Hydra's sweep grammar.

    >>> distribution("lr", "tag(log, interval(1e-5, 1e-3))")
    FloatDistribution(high=0.001, log=True, low=1e-05, step=None)

    Raises:
        UserError: The text names a single value.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    override = OverridesParser.create().parse_override(f"{key}={text}")
    values: Any = override.value()
    if isinstance(values, ChoiceSweep):
        choices: Any = list(override.sweep_iterator())
        return CategoricalDistribution(choices)
    log = "log" in getattr(values, "tags", set())
    kind: Any = FloatDistribution
    if isinstance(values, IntervalSweep):
        if isinstance(values.start, int) and isinstance(values.end, int):  # int(interval(1, 8))
            kind = IntDistribution
        return kind(values.start, values.end, log=log)
    if isinstance(values, RangeSweep):
        low, high, step = values.start or 0, values.stop, values.step
        if all(isinstance(number, int) for number in (low, high, step)):
            kind, high = IntDistribution, max(values.range(), default=low)  # stop lies outside
        return kind(low, high, step=step)
    raise UserError(
        f"`{key}: {text}` names one value, not a range",
        remedy="choice(a,b), range(1,9), interval(0.1,0.9) or tag(log,interval(1e-5,1e-3))",
    )


def _suggest(trial: "Trial", key: str, values: "BaseDistribution") -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, CategoricalDistribution):
        trial.suggest_categorical(key, values.choices)
    elif isinstance(values, IntDistribution):
        trial.suggest_int(key, values.low, values.high, step=values.step, log=values.log)
    elif isinstance(values, FloatDistribution):
        trial.suggest_float(key, values.low, values.high, step=values.step, log=values.log)


def _study(optuna: Any, cfg: "DictConfig", folder: Path) -> "Study":
    from hydra.utils import instantiate
    from optuna.storages.journal import JournalFileBackend

    folder.mkdir(parents=True, exist_ok=True)
    study: Study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal"))),
        study_name=f"{cfg.name}/{cfg.hparams_search.name}",
        direction=cfg.hparams_search.direction,
        load_if_exists=True,
    )
    if sampler := cfg.hparams_search.get("sampler"):
        # a sampler that starts anew would draw its first values again
        own = {"seed": sampler.seed + len(study.trials)} if "seed" in sampler else {}
        study.sampler = instantiate(sampler, **own)
    return study


def _finished(study: "Study") -> list[Any]:
    return [trial for trial in study.trials if trial.state.is_finished()]


def _train(cfg: "DictConfig", typed: Arguments, trial: "Trial", folder: Path) -> float:
    """Train in a process of its own, so that no crash of it ends the search."""
    command = [sys.executable, sys.argv[0], *typed.words]
    command += [f"{key}={value}" for key, value in trial.params.items()]
    command += [f"hydra.run.dir='{folder}'"]
    own = {TRIAL: str(trial.number), ranks.RUN_ID: f"{cfg.hparams_search.name}-{trial.number:03d}"}
    status = subprocess.run(command, env=os.environ | own).returncode
    manifest = folder / "manifest.yaml"
    if status == 0 and manifest.is_file():
        value = yaml.safe_load(manifest.read_text())["metrics"].get(cfg.objective)
        if value is not None:
            return float(value)
    print(f"trial {trial.number} failed with status {status}", file=sys.stderr)
    raise TrialFailed(status)


def _show(study: "Study", cfg: "DictConfig", folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    complete = [trial for trial in _finished(study) if trial.value is not None]
    failed = [trial.number for trial in _finished(study) if trial.value is None]
    sign = 1 if cfg.hparams_search.direction == "minimize" else -1
    table = Table("trial", cfg.objective, "settings", title=study.study_name)
    for trial in sorted(complete, key=lambda trial: sign * trial.value):
        table.add_row(str(trial.number), f"{trial.value:.6g}", str(trial.params))
    Console().print(table)
    if complete:
        best = study.best_trial
        atomic_write(folder / "best.yaml", yaml.safe_dump(dict(best.params)))
        settings = " ".join(f"{key}={value}" for key, value in best.params.items())
        print(f"best: {settings}\nrun:  {folder / f'trial-{best.number:03d}'}")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(complete) + len(failed)} trials failed: {failed}",
            file=folder,
            remedy="their folders hold train.log; hparams_search.trials=N adds trials",
        )
