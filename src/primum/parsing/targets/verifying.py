"""`primum checkpoints verify NAME --golden FILE`: an adapter against the weights a user has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.targets.adapter import AdaptedTarget, Adapter
from primum.parsing.targets.golden import SEEDS, GoldenRun, compared, record, same_tokens

READS = 0.2  # a mean distance above it is no reading


def verify(
    adapter: Adapter,
    weights: str,
    file: str | Path,
    dtype: str = "auto",
    seeds: Sequence[int] = SEEDS,
    max_new_tokens: int = 512,
) -> tuple[bool, list[str]]:
    """Read the golden pages; write the file if there is none, else say what differs from it.

    Args:
        weights: Hub id or directory.

    Returns:
        Whether all is well, and the report line by line.

    Raises:
        UserError: The weights cannot be loaded, or the file is something else.
    """
    before = GoldenRun.read(file) if Path(file).exists() else None
    source = PretrainedVlm(weights, dtype=dtype)
    processor = source.processor()
    model, loading = source.loaded()
    if torch.cuda.is_available():
        model.to("cuda")  # type: ignore[arg-type]
    target = AdaptedTarget(model, processor, adapter)
    run = record(target, source.fingerprint(), loading, seeds, max_new_tokens)
    fine, told = run.sound, told_of(run)
    if before is None:
        run.write(file)
        told.append(f"written: {file}")
    else:
        differs = compared(before, run)
        same = same_tokens(before, run)
        fine = fine and same
        told += [f"differs: {line}" for line in differs]
        told.append("the tokens are those of " + str(file) if same else "NOT the golden tokens")
    return fine, told


def told_of(run: GoldenRun) -> list[str]:
    """A run in lines."""
    lines = [
        f"{run.adapter}: {run.parameters:,} weights, {run.dtype} on {run.device}; "
        f"{len(run.missing)} tensors missing, {len(run.unexpected)} left over"
    ]
    lines += [f"  missing: {name}" for name in run.missing[:10]]
    lines += [f"  left over: {name}" for name in run.unexpected[:10]]
    for page in run.pages:
        drafts = "drafts change nothing" if page.drafted else "DRAFTS CHANGED THE OUTPUT"
        lines.append(
            f"  seed {page.seed}, {page.kind}: {len(page.tokens)} tokens, {drafts}, "
            f"{100 * page.error:.1f} % away from the truth"
        )
    mean = sum(page.error for page in run.pages) / max(1, len(run.pages))
    if mean > READS:
        lines.append(
            f"It does not read: {100 * mean:.0f} % away on average. Are these trained weights, and "
            "is it the prompt they were trained on?"
        )
    return lines
