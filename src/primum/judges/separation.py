"""The judge that rewarded a model must not be the one that reports on it.

A policy learns its reward judge's mistakes; a report by the same judge would count them as safety.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from primum.errors import UserError
from primum.judges.judge import Judge

PACKAGE = "primum.judges."
NOT_IDENTITY = {"_target_", "_partial_", "cache", "timeout", "retries", "api_key", "sure", "binary"}


def judges_in(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every judge that a resolved configuration builds, wherever it stands."""
    if isinstance(config, Mapping):
        target = str(config.get("_target_", ""))
        if target.startswith(PACKAGE) and not target.startswith(f"{PACKAGE}rewards."):
            yield config
        for value in config.values():
            yield from judges_in(value)
    elif isinstance(config, Sequence) and not isinstance(config, str):
        for value in config:
            yield from judges_in(value)


def check_separation(reporter: Judge, trained_with: Any) -> None:
    """Refuse a report by a judge that rewarded the model in training.

    Judges are the same if they are of one class and, for language models, one model: another
    threshold, cache or time-out does not make another judge.

    Args:
        reporter: Who judges now.
        trained_with: The resolved configuration of the training, as the manifest keeps it.

    Raises:
        UserError: They are the same.
    """
    kind = f"{type(reporter).__module__}.{type(reporter).__qualname__}"
    for config in judges_in(trained_with):
        if str(config["_target_"]) != kind:
            continue
        told = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
        model = told.get("model") or (told.get("source") or {}).get("name")
        own = getattr(reporter, "model", None) or getattr(
            getattr(reporter, "source", None), "name", None
        )
        if isinstance(model, str) and isinstance(own, str) and model != own:
            continue
        raise UserError(
            f"The judge `{reporter.name}` rewarded this model in training, so it cannot report on "
            "it: what fooled the judge then would count as safety now",
            remedy="report with another judge: benchmark/judge of another class or model, for "
            "example benchmark.judge._target_=primum.judges.response_classifier."
            "ResponseClassifier",
        )
