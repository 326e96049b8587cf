"""Perplexity against the model's own loss and a slow bootstrap."""

import math

import numpy as np
import pytest
import torch

from primum.metrics.perplexity import CorpusPerplexity, corpus_perplexity, perplexity_ratio


def test_it_is_the_exponent_of_cross_entropy_over_all_tokens() -> None:
    logits = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(5, (3, 9), generator=torch.Generator().manual_seed(1))
    labels[0, 4:] = -100
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    kept = labels != -100
    chosen = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    sums = [float(row[mask].sum()) for row, mask in zip(chosen, kept, strict=True)]
    score = corpus_perplexity(sums, kept.sum(1).tolist())
    assert score.value == pytest.approx(math.exp(float(loss)), rel=1e-5)


def test_the_interval_agrees_with_a_slow_bootstrap() -> None:
    draw = np.random.default_rng(3)
    tokens = draw.integers(5, 60, 40)
    sums = -tokens * draw.gamma(4, 0.5, 40)
    score = corpus_perplexity(sums.tolist(), tokens.tolist())
    slow = []
    for _ in range(4000):
        picked = draw.integers(0, 40, 40)
        slow.append(math.exp(-sums[picked].sum() / tokens[picked].sum()))
    assert (score.low, score.high) == pytest.approx(np.percentile(slow, [2.5, 97.5]), rel=0.03)


def test_order_and_batches_change_nothing() -> None:
    sums, tokens = torch.tensor([-9.0, -30.5, -12.25, -4.0]), torch.tensor([3, 12, 5, 1])
    metric = CorpusPerplexity()
    for index in ([2, 0], [3], [1]):
        metric.update(sums[index], tokens[index])
    assert metric.compute() == corpus_perplexity(sums.tolist(), tokens.tolist())


def test_the_ratio_is_that_of_the_perplexities() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(5, 60, 30)
    before, after = -3.0 * tokens + draw.normal(0, 5, 30), -2.5 * tokens + draw.normal(0, 5, 30)
    ratio = perplexity_ratio([before], [after], tokens, range(30))
    expected = (
        corpus_perplexity(after.tolist(), tokens.tolist()).value
        / corpus_perplexity(before.tolist(), tokens.tolist()).value
    )
    assert ratio.value == pytest.approx(expected)
    assert ratio.low < expected < ratio.high < 1


@pytest.mark.parametrize(("sums", "tokens"), [([-1.0], [1, 2]), ([-1.0, 0.0], [3, 0])])
def test_unmatched_or_empty_cases_are_refused(sums: list[float], tokens: list[int]) -> None:
    with pytest.raises(ValueError):
        corpus_perplexity(sums, tokens)
