"""Objectives have the values and gradients that their papers' formulas give."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from primum.alignment.objectives import negative_log_likelihood, token_logprobs
from primum.alignment.objectives import policy as grpo
from primum.alignment.objectives import preference as dpo
from primum.alignment.objectives.lagrangian import Multiplier
from primum.alignment.objectives.reward import bradley_terry, cost
from primum.alignment.objectives.supervised import dynamic_fine_tuning, neftune
from primum.alignment.objectives.unpaired import drift_of, kto
from primum.errors import UserError

CHOSEN, REJECTED = torch.tensor([-10.0, -30.0]), torch.tensor([-24.0, -20.0])
REFERENCE_CHOSEN, REFERENCE_REJECTED = torch.tensor([-12.0, -28.0]), torch.tensor([-20.0, -25.0])
LENGTHS, OTHER_LENGTHS = torch.tensor([5.0, 10.0]), torch.tensor([8.0, 4.0])
MARGIN = torch.tensor([0.5, 2.0])
DELTA = (2.0 + 4.0, -2.0 - 5.0)  # by hand


def pairs() -> dpo.Pairs:
    return dpo.Pairs(
        CHOSEN, REJECTED, LENGTHS, OTHER_LENGTHS, REFERENCE_CHOSEN, REFERENCE_REJECTED, MARGIN
    )


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def per_token(chosen: tuple[float, float], rejected: tuple[float, float]) -> list[float]:
    return [chosen[i] / float(LENGTHS[i]) - rejected[i] / float(OTHER_LENGTHS[i]) for i in (0, 1)]


NORMALISED = per_token((2.0, -2.0), (-4.0, 5.0))
MEANS = ((-2.0, -3.0), (-3.0, -5.0))  # per-token log-probabilities, chosen and rejected


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (dpo.sigmoid, [-log_sigmoid(0.1 * d) for d in DELTA]),
        (
            partial(dpo.sigmoid, beta=0.5, smoothing=0.2),
            [-0.8 * log_sigmoid(0.5 * d) - 0.2 * log_sigmoid(-0.5 * d) for d in DELTA],
        ),
        (
            partial(dpo.robust, smoothing=0.2),
            [(-0.8 * log_sigmoid(0.1 * d) + 0.2 * log_sigmoid(-0.1 * d)) / 0.6 for d in DELTA],
        ),
        (dpo.hinge, [max(0.0, 1 - 0.1 * d) for d in DELTA]),
        (
            partial(dpo.offset, alpha=2.0),
            [-log_sigmoid(0.1 * d - 2 * m) for d, m in zip(DELTA, (0.5, 2.0), strict=True)],
        ),
        (dpo.ipo, [(d - 5.0) ** 2 for d in NORMALISED]),
        (dpo.sigmoid_norm, [-log_sigmoid(0.1 * d) for d in NORMALISED]),
        (
            partial(dpo.simpo, beta=2.0, gamma=0.6),
            [-log_sigmoid(2 * (c - r) - 0.6) for c, r in zip(*MEANS, strict=True)],
        ),
        (
            partial(dpo.cpo, alpha=0.5),
            [-log_sigmoid(0.1 * 14) + 0.5 * 2, -log_sigmoid(-0.1 * 10) + 0.5 * 3],
        ),
        (
            partial(dpo.orpo, beta=0.3),
            [
                -c - 0.3 * log_sigmoid(
                    math.log(math.exp(c) / (1 - math.exp(c)))
                    - math.log(math.exp(r) / (1 - math.exp(r)))
                )
                for c, r in zip(*MEANS, strict=True)
            ],
        ),
    ],
)  # fmt: skip
def test_pair_losses_are_their_formulas(objective: dpo.PairLoss, expected: list[float]) -> None:
    assert_close(objective(pairs()), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_at_the_reference_dpo_is_log_2_with_gradient_minus_beta_over_2() -> None:
    chosen, rejected = (torch.zeros(3, requires_grad=True) for _ in range(2))
    ones = torch.ones(3)
    loss = dpo.sigmoid(dpo.Pairs(chosen, rejected, ones, ones, torch.zeros(3), torch.zeros(3)), 0.4)
    assert_close(loss, torch.full((3,), math.log(2)))
    (gradient,) = torch.autograd.grad(loss.sum(), chosen)
    assert_close(gradient, torch.full((3,), -0.2))


def test_what_an_objective_lacks_is_named() -> None:
    bare = dpo.Pairs(CHOSEN, REJECTED, LENGTHS, OTHER_LENGTHS)
    with pytest.raises(UserError, match="with a reference model"):
        dpo.sigmoid(bare)
    with pytest.raises(UserError, match="margin"):
        dpo.offset(bare)
    with pytest.raises(UserError, match="flipped labels"):
        dpo.robust(pairs(), smoothing=0.5)
    assert dpo.simpo(bare).isfinite().all() and dpo.orpo(bare).isfinite().all()


def test_a_certain_answer_has_finite_odds_and_gradients() -> None:
    sure = torch.zeros(1, requires_grad=True)
    ones = torch.ones(1)
    loss = dpo.orpo(dpo.Pairs(sure, torch.tensor([-1.0]), ones, ones))
    loss.backward()
    assert loss.isfinite() and sure.grad is not None and sure.grad.isfinite()


def test_kto_weighs_good_and_bad_and_measures_from_the_drift() -> None:
    ratios, good = torch.tensor([3.0, 3.0]), torch.tensor([True, False])
    losses = kto(ratios, good, 1.0, beta=0.5, desirable_weight=1.5, undesirable_weight=2.0)
    assert losses.tolist() == pytest.approx([1.5 / (1 + math.e), 2 * math.e / (1 + math.e)])
    assert float(drift_of(torch.tensor([-2.0, -1.0]))) == 0.0
    assert float(drift_of(torch.tensor([2.0, 1.0]))) == 1.5


def test_a_safer_answer_costs_less_and_the_sign_says_unsafe() -> None:
    """Gradient descent pushes the cost of the harmful answer up through 0, of the safe one down."""
    costs = torch.zeros(2, 1, requires_grad=True)
    harmful, safe = torch.tensor([True]), torch.tensor([False])
    loss = cost(costs[0], costs[1], harmful, safe)
    assert_close(loss, torch.tensor([3 * math.log(2)]))
    (gradient,) = torch.autograd.grad(loss.sum(), costs)
    assert gradient[0] == -1.0 and gradient[1] == 1.0
    both = cost(torch.tensor([2.0]), torch.tensor([1.0]), harmful, harmful)
    expected = -log_sigmoid(1.0) - log_sigmoid(2.0) - log_sigmoid(1.0)
    assert float(both) == pytest.approx(expected, rel=1e-5)


def test_reward_model_loss_with_margin_and_centre() -> None:
    loss = bradley_terry(torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([0.5]), centre=0.1)
    assert float(loss) == pytest.approx(-log_sigmoid(1.0) + 0.1 * 2.5**2, rel=1e-6)


# ── Token log-probabilities ──────────────────────────────────────────────────


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1200), st.integers(2, 40), st.integers(0, 99))
def test_token_logprobs_are_log_softmax_with_its_gradient(n: int, words: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = (4 * torch.randn(n, words, generator=random)).requires_grad_()
    targets = torch.randint(words, (n,), generator=random)
    wanted = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    ours = token_logprobs(logits, targets)
    assert_close(ours, wanted)
    outer = torch.randn(n, generator=random)
    assert_close(
        torch.autograd.grad((ours * outer).sum(), logits),
        torch.autograd.grad((wanted * outer).sum(), logits),
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip


def test_dft_weighs_the_gradient_by_the_tokens_own_probability() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([1, 2, 3, 4, 5])
    chances = logits.softmax(-1).gather(1, targets[:, None])[:, 0].detach()
    wanted = torch.autograd.grad(negative_log_likelihood(logits, targets, chances), logits)
    assert_close(torch.autograd.grad(dynamic_fine_tuning(logits, targets), logits), wanted)


def test_neftune_adds_bounded_noise_in_training_only() -> None:
    embedding = torch.nn.Embedding(10, 16)
    ids, lengths = torch.zeros(1, 4, dtype=torch.long), torch.full((1, 4), 4)
    plain = embedding(ids)
    with neftune(embedding, lengths, alpha=5.0):
        noise = embedding(ids) - plain
        assert 0 < noise.abs().max() <= 5.0 / math.sqrt(4 * 16)
    embedding.eval()
    with neftune(embedding, lengths, alpha=5.0):
        assert torch.equal(embedding(ids), plain)
    assert torch.equal(embedding(ids), plain)


# ── GRPO ─────────────────────────────────────────────────────────────────────


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([0.0, 1.0, 2.0, 5.0, 5.0, 5.0])
    scaled = grpo.group_advantages(rewards, 3)
    assert_close(scaled, torch.tensor([-1.0, 0, 1, 0, 0, 0]) / 1.0001, rtol=1e-5, atol=1e-6)
    assert grpo.group_advantages(rewards, 3, "none").tolist() == [-1, 0, 1, 0, 0, 0]
    with pytest.raises(UserError, match="at least 2"):
        grpo.group_advantages(rewards, 1)


def test_normalising_first_keeps_a_loud_reward_from_drowning_a_quiet_one() -> None:
    loud = torch.tensor([0.0, 100.0, 0.0, 100.0])
    quiet = torch.tensor([1.0, 0.0, 0.0, 1.0])
    weights = {"loud": 1.0, "quiet": 1.0}
    rewards = {"loud": loud, "quiet": quiet}
    summed = grpo.combined_advantages(rewards, weights, 4)
    first = grpo.combined_advantages(rewards, weights, 4, "normalise_then_sum")
    assert summed[1] == pytest.approx(float(summed[3]), abs=0.02)
    assert first[1] == pytest.approx(float(first[0]), abs=1e-3) and first[3] > 1
    flat = {name: torch.ones(4) for name in weights}
    assert not grpo.combined_advantages(flat, weights, 4, "normalise_then_sum").any()


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo", "bnpo", "gspo", "cispo"])
def test_equal_rewards_have_no_gradient(kind: grpo.Kind) -> None:
    new = torch.randn(6, requires_grad=True)
    advantages = grpo.group_advantages(torch.full((3,), 0.7), 3)
    owners = torch.tensor([0, 0, 1, 1, 2, 2])
    losses = grpo.token_losses(new, new.detach(), advantages, owners, kind)
    (gradient,) = torch.autograd.grad(losses.sum(), new)
    assert not gradient.any()


def test_clipping_stops_the_gradient_where_the_step_has_gone_far_enough() -> None:
    new = torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5])).requires_grad_()
    advantages, owners = torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.arange(4)
    losses = grpo.token_losses(new, torch.zeros(4), advantages, owners, "grpo")
    assert_close(losses, torch.tensor([-1.2, 1.5, -0.5, 0.8]))
    (gradient,) = torch.autograd.grad(losses.sum(), new)
    assert_close(gradient, torch.tensor([0.0, 1.5, -0.5, 0.0]))


def test_the_kl_to_the_reference_is_k3() -> None:
    new, reference = torch.tensor([-1.0]), torch.tensor([-1.5])
    losses = grpo.token_losses(
        new, new, torch.zeros(1), torch.zeros(1, dtype=torch.long), "grpo",
        reference=reference, beta=0.5,
    )  # fmt: skip
    assert float(losses) == pytest.approx(0.5 * (math.exp(-0.5) + 0.5 - 1), rel=1e-5)
    with pytest.raises(UserError, match="reference"):
        grpo.token_losses(new, new, torch.zeros(1), torch.zeros(1, dtype=torch.long), beta=0.1)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo", "gspo", "cispo"])
def test_a_step_split_into_micro_batches_is_the_same_step(kind: grpo.Kind) -> None:
    lengths, owners = [3, 1, 2, 2], torch.tensor([0, 0, 0, 1, 2, 2, 3, 3])
    losses = torch.randn(8, generator=torch.Generator().manual_seed(1))

    def mean(parts: list[tuple[int, int]]) -> float:
        total, divisor = 0.0, 0.0
        for start, end in parts:
            weights = grpo.token_weights(kind, lengths[start:end], longest=4)
            inside = (owners >= start) & (owners < end)
            total += float((losses[inside] * weights[owners[inside] - start]).sum())
            divisor += grpo.step_total(kind, lengths[start:end])
        return total / divisor

    whole = mean([(0, 4)])
    assert mean([(0, 1), (1, 4)]) == pytest.approx(whole, rel=1e-5)
    if kind == "dapo":
        assert whole == pytest.approx(float(losses.mean()), rel=1e-5)
    if kind == "dr_grpo":
        assert whole == pytest.approx(float(losses.sum()) / (4 * 4), rel=1e-5)


def test_the_multiplier_rises_exactly_while_the_cost_is_too_high() -> None:
    one = Multiplier(threshold=0.2, initial=2.0, rate=0.1, largest=5.0, window=1)
    assert one.update(0.5) == pytest.approx(2 * math.exp(0.1 * 2 * 0.3), rel=1e-6)
    high = one.value
    assert one.update(0.2) == pytest.approx(high) and one.update(-1.0) < high
    for _ in range(200):
        one.update(9.0)
    assert one.value == pytest.approx(5.0)
    mean = grpo.lagrangian_advantages(torch.tensor([1.0]), torch.tensor([2.0]), 3.0)
    assert float(mean) == pytest.approx((1 - 6) / 4)


def test_the_multiplier_is_part_of_the_state() -> None:
    one, other = Multiplier(window=3), Multiplier(window=3)
    one.update(2.0)
    other.load_state_dict(one.state_dict())
    assert other.update(1.0) == pytest.approx(one.update(1.0))


def test_gspo_has_one_ratio_an_answer() -> None:
    new = torch.tensor([0.3, 0.1, -0.2], requires_grad=True)
    owners = torch.tensor([0, 0, 1])
    losses = grpo.token_losses(new, torch.zeros(3), torch.ones(2), owners, "gspo",
                               grpo.Clip(0.9, 0.9))  # fmt: skip
    assert_close(losses, -torch.tensor([math.exp(0.2), math.exp(0.2), math.exp(-0.2)]))


def test_cispo_holds_the_weight_and_keeps_the_gradient() -> None:
    new = torch.tensor([3.0, 0.0], requires_grad=True)
    losses = grpo.token_losses(
        new, torch.zeros(2), torch.ones(1), torch.zeros(2, dtype=torch.long), "cispo"
    )
    (gradient,) = torch.autograd.grad(losses.sum(), new)
    assert_close(gradient, torch.tensor([-5.0, -1.0]))
