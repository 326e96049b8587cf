"""Fit one experiment: `python train.py +experiment=alignment/quickstart`."""

from typing import TYPE_CHECKING

from primum.entry.launch import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(cfg: "DictConfig") -> float | None:
    """Fit one experiment, and leave a model with the manifest that vouches for it."""
    from primum.entry.run import Run

    run = Run.begin(cfg)  # refuses what cannot work before anything heavy is imported

    from hydra.utils import instantiate
    from lightning import seed_everything

    seed_everything(cfg.seed, workers=True)
    data = instantiate(cfg.data, _convert_="all")
    module = instantiate(cfg.module, _convert_="all")
    trainer = run.trainer()
    trainer.fit(module, datamodule=data, ckpt_path=run.checkpoint, weights_only=True)
    run.leave(trainer, module, data)
    return run.objective(trainer)


if __name__ == "__main__":
    launch(train, "train")
