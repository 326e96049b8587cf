"""Who sits a benchmark, and the loop it sits in."""

from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from primum.checkpoints.manifest import plain
from primum.errors import UserError

if TYPE_CHECKING:
    from lightning import Trainer

    from primum.benchmarks.benchmark import Benchmark
    from primum.benchmarks.candidates import Candidate

ORIGINS = ("checkpoint", "endpoint", "predictions", "method")


def check_choices(cfg: DictConfig) -> None:
    """Refuse what cannot work before anything heavy is imported.

    Raises:
        UserError: No benchmark was chosen, or not exactly one candidate.
    """
    if OmegaConf.is_missing(cfg, "benchmark"):
        raise UserError(
            "No benchmark was chosen",
            remedy="choose benchmark=<name>; python evaluate.py --help lists them",
        )
    given = [key for key in ORIGINS if cfg[key]]
    if len(given) != 1:
        raise UserError(
            f"Name exactly one candidate, not {' and '.join(given) or 'none'}",
            remedy="checkpoint=<run folder | directory | hub id>, endpoint=<URL>, "
            "predictions=<file> or method=<name>",
        )


def candidate_of(cfg: DictConfig, benchmark: "Benchmark") -> "Candidate":
    """The candidate that one of checkpoint, endpoint, predictions and method names.

    Raises:
        UserError: It cannot be had.
    """
    from primum.benchmarks.candidates import resolve_candidate
    from primum.entry.quiet import quiet

    quiet()
    settings = plain(cfg)
    return resolve_candidate(
        **{key: settings[key] for key in ORIGINS[:3]},
        method=cfg.method and instantiate(cfg.method, _convert_="all"),
        read=benchmark.read_predictions,
        trusted_modules=settings["trusted_modules"],
        trust_remote_code=settings["trust_remote_code"],
        **settings["candidate"],
    )


def trainer_of(cfg: DictConfig) -> "Trainer":
    """A trainer whose test loop leaves its traces in the report alone."""
    return instantiate(
        cfg.trainer,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # it would repeat cases to even out the ranks
    )
