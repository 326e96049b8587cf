"""Who sits a benchmark, and the loop it sits in."""

from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from primum.checkpoints.manifest import plain
from primum.errors import UserError

if TYPE_CHECKING:
    from lightning import Trainer

    from primum.benchmarks.candidates import Candidate


def candidate_of(cfg: DictConfig) -> "Candidate":
    """The candidate that exactly one of checkpoint, endpoint and predictions names.

    Raises:
        UserError: No benchmark was chosen, or not exactly one candidate.
    """
    if OmegaConf.is_missing(cfg, "benchmark"):
        raise UserError(
            "No benchmark was chosen",
            remedy="choose benchmark=<name>; python evaluate.py --help lists them",
        )
    settings = plain(cfg)
    origins = {key: settings[key] for key in ("checkpoint", "endpoint", "predictions")}
    given = [key for key, value in origins.items() if value]
    if len(given) != 1:
        raise UserError(
            f"Name exactly one candidate, not {' and '.join(given) or 'none'}",
            remedy="checkpoint=<run folder | directory | hub id>, endpoint=<URL> or "
            "predictions=<file>",
        )
    from primum.benchmarks.candidates import resolve_candidate
    from primum.entry.quiet import quiet

    quiet()
    return resolve_candidate(
        **origins,
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
