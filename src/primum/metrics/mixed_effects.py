"""Authors compared on ratings, vignettes and raters being random and crossed (REML)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor

from primum.metrics.score import CONFIDENCE, Score


def author_effects(
    scores: Sequence[float],
    authors: Sequence[str],
    vignettes: Sequence[str],
    raters: Sequence[str],
    *,
    model: str,
    protocol: str = "",
) -> dict[str, Score]:
    """Model minus each other author, from `score ~ author + (1 | vignette) + (1 | rater)`.

    Uses single ratings, gaps and all, where `paired_shift` uses means over raters. The interval is
    Wald's. REML: Patterson and Thompson (1971).

    Args:
        scores, authors, vignettes, raters: (ratings,) each.

    Returns:
        One score for each author but the model.

    Raises:
        ValueError: The lists differ in length, or the model is not among the authors.

    >>> scores = [4, 5, 3, 4, 3, 3, 2, 3]
    >>> authors, raters = ["model"] * 4 + ["pgy1"] * 4, ["a", "b"] * 4
    >>> found = author_effects(
    ...     scores, authors, ["v1", "v1", "v2", "v2"] * 2, raters, model="model"
    ... )
    >>> round(found["pgy1"].value, 3)
    1.25
    """
    if len({len(scores), len(authors), len(vignettes), len(raters)}) != 1:
        raise ValueError("every rating has a score, an author, a vignette and a rater")
    others = sorted(set(authors) - {model})
    if model not in authors or not others:
        raise ValueError(f"{model!r} and another author are needed")
    observed = torch.tensor(list(scores), dtype=torch.float64)
    # the model is the reference: each other column is how far that author lies below it
    fixed = torch.stack(
        [torch.ones_like(observed)]
        + [-torch.tensor([float(name == other) for name in authors]).double() for other in others],
        1,
    )
    groups = [_same(vignettes), _same(raters)]
    logs = torch.zeros(3, dtype=torch.float64, requires_grad=True)  # log variances
    optimizer = torch.optim.LBFGS([logs], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _restricted(logs, observed, fixed, groups)[0]
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        _, effects, spread = _restricted(logs, observed, fixed, groups)
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    vignette, rater, rest = logs.detach().clamp(min=-12).exp().sqrt().tolist()
    how = (
        f"mixed model (REML) of {len(scores)} ratings, standard deviations: vignettes "
        f"{vignette:.2f}, raters {rater:.2f}, residual {rest:.2f}; Wald 95 % interval"
    )
    how = "; ".join(part for part in (protocol, how) if part)
    found = {}
    for number, other in enumerate(others, 1):
        value, error = float(effects[number]), float(spread[number, number]) ** 0.5
        name = f"{model} - {other}, mixed model"
        found[other] = Score(
            name, value, value - z * error, value + z * error, len(scores), how, True
        )
    return found


def _same(names: Sequence[str]) -> Tensor:
    """(ratings, ratings): 1 where two ratings share the name."""
    index = torch.tensor([sorted(set(names)).index(name) for name in names])
    return (index[:, None] == index).double()


def _restricted(
    logs: Tensor, observed: Tensor, fixed: Tensor, groups: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Negative restricted log-likelihood (up to a constant), effects and their covariance."""
    parts = logs.clamp(min=-12).exp()  # a variance may vanish, its logarithm may not run away
    eye = torch.eye(len(observed), dtype=torch.float64)
    cover = parts[0] * groups[0] + parts[1] * groups[1] + parts[2] * eye
    root = torch.linalg.cholesky(cover)
    whitened = torch.linalg.solve_triangular(root, fixed, upper=False)
    target = torch.linalg.solve_triangular(root, observed[:, None], upper=False)
    information = whitened.T @ whitened
    spread = torch.linalg.inv(information)
    effects = spread @ whitened.T @ target
    left = target - whitened @ effects
    loss = root.diagonal().log().sum() + torch.logdet(information) / 2 + left.square().sum() / 2
    return loss, effects[:, 0], spread
