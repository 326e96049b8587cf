"""A training run's folder: what goes in before the first step and after the last one."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import primum
from primum.checkpoints.manifest import plain
from primum.entry import ranks
from primum.entry.changes import changes, show
from primum.entry.quiet import quiet
from primum.errors import UserError
from primum.files import atomic_write

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


@dataclass(frozen=True)
class Run:
    """One run of `train.py`.

    Args:
        cfg: The composed config.
        folder: Where everything it leaves will lie.
        checkpoint: The checkpoint it goes on from.
    """

    cfg: DictConfig
    folder: Path
    checkpoint: Path | None

    @classmethod
    def begin(cls, cfg: DictConfig) -> "Run":
        """Find the checkpoint to resume, and write config.yaml and overrides.yaml.

        Raises:
            UserError: No experiment was chosen, the folder holds another run, or there is
                nothing to resume.
        """
        for key in ("name", "module", "data"):
            if OmegaConf.is_missing(cfg, key) or cfg[key] is None:
                raise UserError(
                    f"There is no {key} to train",
                    remedy="choose +experiment=<family>/<name>; python train.py --help lists them",
                )
        folder = Path(cfg.paths.output)
        resume = cfg.resume
        if resume is None and ranks.restarted() and any(folder.glob("checkpoints/*.ckpt")):
            resume = str(folder)  # the launcher's second try goes on with the first
        checkpoint = None
        if resume is not None:
            from primum.training.resume import find_resume

            checkpoint = Path(find_resume(str(resume), Path(cfg.paths.outputs) / cfg.name))

        config = folder / "config.yaml"
        if ranks.rank() == 0:
            fresh = not ranks.restarted() and resume is None
            if fresh and config.exists():
                raise UserError(
                    "This folder holds a run already",
                    file=folder,
                    remedy=f"choose another run_id=, or go on with it: resume={folder}",
                )
            if checkpoint is not None:
                _show_changes(cfg, checkpoint)
            overrides = OmegaConf.create(list(HydraConfig.get().overrides.task))
            resolved = OmegaConf.to_yaml(cfg, resolve=True)
            atomic_write(config, f"# primum {primum.__version__}\n{resolved}")
            atomic_write(folder / "overrides.yaml", OmegaConf.to_yaml(overrides))
        quiet()
        return cls(cfg, folder, checkpoint)

    def trainer(self) -> "Trainer":
        """The trainer, with callbacks and loggers by name; a name set to null is left out."""
        parts = {
            "callbacks": list(present(self.cfg.callbacks)),
            "logger": list(present(self.cfg.logger)),
        }
        return instantiate(self.cfg.trainer, **parts)

    def leave(self, trainer: "Trainer", module: "LightningModule", data: Any) -> None:
        """Leave model/ and manifest.yaml; every rank calls it. A dry run leaves nothing."""
        if getattr(trainer, "fast_dev_run", False):
            return
        from primum.checkpoints.export import leave_run

        offered = getattr(data, "fingerprints", None)
        manifest = leave_run(
            trainer,
            module,
            plain(self.cfg.module),
            name=self.cfg.name,
            run_id=self.cfg.run_id,
            folder=self.folder,
            data_fingerprints=offered() if offered else [],
            card=plain(self.cfg.card),
            metrics=metrics(trainer),
        )
        if trainer.is_global_zero and manifest is not None:
            print(f"\nrun:  {_short(self.folder)}\nnext: {self.next_command()}")

    def objective(self, trainer: "Trainer") -> float | None:
        """The metric a sweep compares.

        Raises:
            UserError: The run logged no metric of that name.
        """
        if self.cfg.objective is None:
            return None
        logged = metrics(trainer)
        if self.cfg.objective not in logged:
            raise UserError(
                f"The objective `{self.cfg.objective}` was not logged",
                remedy=f"objective= one of {', '.join(sorted(logged)) or 'nothing: none was'}",
            )
        return logged[self.cfg.objective]

    def next_command(self) -> str:
        """The command that measures this run's model."""
        script = Path(sys.argv[0]).with_name("evaluate.py")
        words = ["python", _short(script), f"benchmark={self.cfg.benchmark or '<name>'}"]
        words.append(f"checkpoint={_short(self.folder)}")
        if self.cfg.trusted_modules:
            words.append(f"trusted_modules=[{','.join(self.cfg.trusted_modules)}]")
        own = [
            source.path.removeprefix("file://")
            for source in HydraConfig.get().runtime.config_sources
            if source.provider == "command-line"
        ]
        words[2:2] = [word for path in own for word in ("--config-dir", _short(Path(path)))]
        return " ".join(shlex.quote(word) if word[-1] != ">" else word for word in words)


def present(nodes: DictConfig | None) -> list[Any]:
    """Build the parts of a mapping that are not null, in order.

    Raises:
        UserError: A part names no class.
    """
    parts = []
    for name, node in (nodes or {}).items():
        if node is None:
            continue
        if not OmegaConf.is_config(node) or "_target_" not in node:
            raise UserError(f"`{name!s}` names no class", remedy=f"give it a `_target_`: {node}")
        parts.append(instantiate(node))
    return parts


def metrics(trainer: "Trainer") -> dict[str, float]:
    """What the run logged last, as plain numbers."""
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _show_changes(cfg: DictConfig, checkpoint: Path) -> None:
    for folder in checkpoint.parents:
        saved = folder / "config.yaml"
        if saved.is_file():
            show(changes(saved, plain(cfg)))
            return


def _short(path: Path) -> str:
    """The path from here where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
