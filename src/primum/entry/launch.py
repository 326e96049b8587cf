"""What stands between a shell and `train(cfg)`: Hydra, with its traps taken out of the way."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum import conf_dir
from primum.entry import arguments, choices, ranks

if TYPE_CHECKING:
    from omegaconf import DictConfig

_FULL_ERROR = "HYDRA_FULL_ERROR"


class EndSweep(BaseException):
    """A mistake that every job of a sweep would repeat."""


def launch(task: "Callable[[DictConfig], Any]", entry: str) -> None:
    """Run a script's function on the config its command line describes.

    Args:
        task: Takes the composed config and may return the number a sweep compares.
        entry: Name of the primary config, `train` or `evaluate`.

    A mistake in the config, or a `UserError`, ends the process with its message and status 1;
    wrong usage with status 2.
    """
    typed = arguments.read(sys.argv[1:], entry)
    folders = config_folders(typed)
    if typed.has("--help", "-h") or not sys.argv[1:]:
        print(choices.overview(entry, task.__doc__ or "", folders, conf_dir() / f"{entry}.yaml"))
        sys.exit(0 if sys.argv[1:] else 2)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own package; last, so that it shadows nothing
    sys.exit(_Launch(task, entry, typed, folders).run())


def config_folders(typed: arguments.Arguments) -> list[Path]:
    """The folders configs come from, a user's own first."""
    own = typed.value("--config-dir", "-cd")
    main = Path(typed.value("--config-path", "-cp") or conf_dir())
    return [*([Path(own).absolute()] if own and Path(own).is_dir() else []), main.absolute()]


class _Launch:
    """One call of a script: a single run, a sweep, or a search."""

    def __init__(
        self,
        task: "Callable[[DictConfig], Any]",
        entry: str,
        typed: arguments.Arguments,
        folders: list[Path],
    ) -> None:
        self.task, self.entry, self.typed, self.folders = task, entry, typed, folders
        self.full_error = os.environ.get(_FULL_ERROR)
        self.searches = False
        self.space: list[str] = []
        self.status = 0
        self.jobs = 0
        self.failures: list[str] = []

    def run(self) -> int:
        """Everything, and the exit status."""
        import hydra

        try:
            os.environ[ranks.RUN_ID] = ranks.run_id()  # Lightning's own children inherit it
            self._prepare_search()
            sys.argv[1:] = self.typed.words
            main = hydra.main(
                version_base="1.3", config_path=str(conf_dir()), config_name=self.entry
            )
            with self._environment("1"):  # Hydra then leaves errors to us
                main(self._job())()
            if not self.status:
                ranks.leave_group()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except EndSweep as end:
            self._report(end.__cause__ or end)
            return 1
        except Exception as error:
            if not self.failures:
                self._report(error)
                return 1
        if self.failures:
            print(f"{len(self.failures)} of {self.jobs} jobs failed:", *self.failures, sep="\n  ",
                  file=sys.stderr)  # fmt: skip
            return 1
        return self.status

    def _job(self) -> "Callable[[DictConfig], Any]":
        @functools.wraps(self.task)
        def job(cfg: "DictConfig") -> Any:
            from hydra.core.hydra_config import HydraConfig
            from hydra.types import RunMode

            sweeps = HydraConfig.get().mode == RunMode.MULTIRUN
            return self._one_of_many(cfg) if sweeps else self._only_one(cfg)

        return job

    def _only_one(self, cfg: "DictConfig") -> Any:
        """Tell an error here, once, without Hydra's own words around it."""
        from hydra.core.hydra_config import HydraConfig

        folder = Path(HydraConfig.get().runtime.output_dir)
        fresh = not (folder / "config.yaml").exists()
        try:
            with self._environment(self.full_error):
                return self._checked(cfg)
        except Exception as error:
            self.status = 1
            self._report(error)
            if fresh and ranks.rank() == 0:
                _discard(folder)
            return None

    def _one_of_many(self, cfg: "DictConfig") -> Any:
        """Note a failed job, an exit included, and let the sweep go on."""
        from hydra.core.hydra_config import HydraConfig

        failure: Exception
        self.jobs += 1
        try:
            with self._environment(self.full_error), _own_run_id(HydraConfig.get().job.num):
                return self._checked(cfg)
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):
                raise  # Ctrl-C ends the sweep
            if end.code in (None, 0):
                return None
            failure = RuntimeError(f"the job exited with {end.code}")
            failure.__cause__ = end
        except Exception as error:
            failure = error
        words = " ".join(HydraConfig.get().overrides.task)
        self.failures.append(f"{words}: {self._report(failure)}")
        raise failure

    def _checked(self, cfg: "DictConfig") -> Any:
        """Refuse what cannot work, then do it."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from omegaconf import OmegaConf

        from primum.entry.keys import refuse_unread

        hydra_cfg = HydraConfig.get()
        primary = OmegaConf.load(self.folders[-1] / f"{self.entry}.yaml")
        groups = [group.partition("@")[0] for group in hydra_cfg.runtime.choices]
        refuse_unread(
            cfg,
            overrides=hydra_cfg.overrides.task,
            groups=groups,
            read={*map(str, primary), *choices.GROUPS[self.entry], "callbacks", "logger", "paths"},
        )
        if self.searches:
            from primum.entry.search import search

            return search(cfg, self.typed, self.space)
        if hydra_cfg.mode == RunMode.MULTIRUN:
            try:
                ranks.refuse_own_ranks(cfg.trainer)
            except Exception as error:
                raise EndSweep from error
        return self.task(cfg)

    def _prepare_search(self) -> None:
        """Take the space of a search out of the words that every trial shares."""
        from primum.entry.search import TRIAL, split_space

        chosen = any(arguments.group_of(w) == "hparams_search" for w in self.typed.overrides)
        self.searches = chosen and TRIAL not in os.environ
        if self.searches:
            self.typed = self.typed.without("-m", "--multirun")
            self.typed, self.space = split_space(self.typed)

    def _report(self, error: BaseException) -> str:
        from primum.entry.problems import report

        return report(
            error,
            entry=self.entry,
            overrides=self.typed.overrides,
            folders=self.folders,
            below=self.task.__code__,
            full=self.full_error == "1",
            rank=ranks.rank(),
        )

    @contextmanager
    def _environment(self, full_error: str | None) -> Iterator[None]:
        """Set HYDRA_FULL_ERROR for a while."""
        before = os.environ.get(_FULL_ERROR)
        _set(_FULL_ERROR, full_error)
        try:
            yield
        finally:
            _set(_FULL_ERROR, before)


@contextmanager
def _own_run_id(number: int | str) -> Iterator[None]:
    """Give a job of a sweep an id of its own, for its children too."""
    before = os.environ[ranks.RUN_ID]
    _set(ranks.RUN_ID, f"{before}-{number}")
    try:
        yield
    finally:
        _set(ranks.RUN_ID, before)


def _discard(folder: Path) -> None:
    """Take away the folder of a run that failed before it made anything."""
    trifles = {"config.yaml", "overrides.yaml", "train.log"}
    if {path.name for path in folder.iterdir()} <= trifles:
        for path in folder.iterdir():
            path.unlink()
        for empty in (folder, *folder.parents[:2]):
            if any(empty.iterdir()):
                break
            empty.rmdir()


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
