"""How surprised a model is by text that was written for it, per token of the whole corpus."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from primum.metrics.score import CONFIDENCE, Score

DRAWS = 10_000


def corpus_perplexity(
    sum_logprobs: Sequence[float],
    num_tokens: Sequence[int],
    name: str = "perplexity",
    *,
    protocol: str = "",
) -> Score:
    """exp(-total log-probability / total tokens), so that a long case weighs as much as it is long.

    Args:
        sum_logprobs: A case's log-probability in nats, summed over its tokens.
        num_tokens: A case's number of tokens.
        name: What was measured.
        protocol: Which text was scored.

    Raises:
        ValueError: The two differ in length, or a case has no tokens.

    >>> print(corpus_perplexity([-10.0, -20.0], [10, 10]))
    4.482 [2.718, 7.389], n = 2
    """
    if len(sum_logprobs) != len(num_tokens):
        raise ValueError(f"{len(sum_logprobs)} log-probabilities for {len(num_tokens)} cases")
    if not num_tokens:
        return Score.unavailable(name, "no cases", False, "ratio")
    if min(num_tokens) < 1:
        raise ValueError("a case without tokens has no perplexity")
    # in a fixed order, so that the same cases give the same interval whichever rank saw them
    logprobs, tokens = np.array(
        sorted(zip(sum_logprobs, num_tokens, strict=True)), dtype=np.float64
    ).T
    n = len(tokens)
    value = float(np.exp(-logprobs.sum() / tokens.sum()))
    # the weight of each case in a draw; multinomial counts are the bootstrap without index arrays
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    draws = np.exp(-(counts @ logprobs) / (counts @ tokens))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws, [tail, 100 - tail])
    how = "; ".join(
        filter(
            None,
            [
                protocol,
                f"token-weighted over {int(tokens.sum())} tokens, "
                f"95 % percentile bootstrap over cases ({DRAWS} draws)",
            ],
        )
    )
    return Score(name, value, float(low), float(high), n, how, False, "ratio")


def perplexity_ratio(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    num_tokens: Sequence[int],
    clusters: Sequence[str | int],
    name: str = "perplexity, after over before",
) -> Score:
    """Perplexity after divided by perplexity before, on the same texts and tokens.

    Args:
        before: (runs, cases) log-probabilities in nats, summed over a case's tokens.
        after: (runs, cases) likewise, of the same cases in the same order.
        num_tokens: (cases,) tokens of each case, the same on both sides.
        clusters: (cases,) the cluster of each case; the bootstrap draws whole clusters, and runs.
        name: What was measured.

    Raises:
        ValueError: The sides are not of the same cases.

    >>> print(perplexity_ratio([[-10.0, -20.0]], [[-5.0, -15.0]], [10, 10], [0, 1]))
    0.607 [0.607, 0.607], n = 2
    """
    first, second = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    tokens = np.asarray(num_tokens, dtype=float)
    if not first.shape[-1] == second.shape[-1] == len(tokens) == len(clusters):
        raise ValueError(f"sides of shape {first.shape} and {second.shape} are not paired")
    labels, index = np.unique(np.asarray([str(label) for label in clusters]), return_inverse=True)
    draw = np.random.default_rng(0)
    weights = draw.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=DRAWS)

    def rates(side: np.ndarray) -> np.ndarray:  # nats a token in each draw
        runs = len(side)
        sums = np.stack([np.bincount(index, weights=row) for row in side])  # (runs, clusters)
        counts = draw.multinomial(runs, np.full(runs, 1 / runs), size=DRAWS) / runs
        drawn = np.einsum("dc,dr,rc->d", weights, counts, sums, optimize=True)
        return drawn / (weights @ np.bincount(index, weights=tokens))

    value = float(np.exp((first.mean(0).sum() - second.mean(0).sum()) / tokens.sum()))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.exp(rates(first) - rates(second)), [tail, 100 - tail])
    how = (
        f"geometric mean over runs, paired by case, 95 % percentile bootstrap over {len(labels)} "
        f"clusters ({DRAWS} draws)"
    )
    return Score(name, value, float(low), float(high), len(tokens), how, False, "ratio")


class CorpusPerplexity(Metric):
    """Token-weighted perplexity of a corpus.

    >>> metric = CorpusPerplexity()
    >>> import torch
    >>> metric.update(torch.tensor([-10.0, -20.0]), torch.tensor([10, 10]))
    >>> print(metric.compute())
    4.482 [2.718, 7.389], n = 2
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False

    sum_logprobs: list[Tensor]
    num_tokens: list[Tensor]

    def __init__(self, name: str = "perplexity", protocol: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_name, self.protocol = name, protocol
        self.add_state("sum_logprobs", default=[], dist_reduce_fx="cat")
        self.add_state("num_tokens", default=[], dist_reduce_fx="cat")

    def update(self, sum_logprobs: Tensor, num_tokens: Tensor) -> None:
        """Remember a batch: log-probabilities in nats (n,) and tokens (n,) of each case."""
        self.sum_logprobs.append(sum_logprobs)
        self.num_tokens.append(num_tokens)

    def compute(self) -> Score:
        """The perplexity so far, with its interval."""
        if len(self.sum_logprobs) == 0:  # a list, or one tensor once ranks were gathered
            return corpus_perplexity([], [], self.score_name)
        return corpus_perplexity(
            dim_zero_cat(self.sum_logprobs).tolist(),
            dim_zero_cat(self.num_tokens).tolist(),
            self.score_name,
            protocol=self.protocol,
        )
