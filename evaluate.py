"""Put one candidate through a benchmark: `python evaluate.py benchmark=… checkpoint=…`."""

from typing import TYPE_CHECKING

from primum.entry.launch import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(cfg: "DictConfig") -> None:
    """Put one candidate through one benchmark, and leave a report that shows every answer."""
    from hydra.utils import instantiate

    from primum.checkpoints.manifest import plain
    from primum.entry.trial import candidate_of, check_choices, trainer_of

    check_choices(cfg)  # refuses what cannot work before anything heavy is imported

    from lightning import seed_everything

    from primum.benchmarks.run import run_benchmark

    seed_everything(cfg.seed, workers=True)
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    run_benchmark(
        benchmark,
        candidate_of(cfg, benchmark),
        trainer_of(cfg),
        output=f"{cfg.paths.outputs}/evaluate",
        level=cfg.report.level,
        config=plain(cfg),
        fresh=cfg.fresh,
    )


if __name__ == "__main__":
    launch(evaluate, "evaluate")
