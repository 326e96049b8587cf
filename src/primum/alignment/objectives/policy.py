"""The GRPO family: rewards become advantages, advantages a loss.

All answers of a batch are given as one row of tokens each; `owners` says which answer a token
belongs to. Per-token losses are added up with weights that make their sum the wanted mean, so
that a step split over ranks and micro-batches is the same step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from primum.errors import UserError

Scale = Literal["group", "batch", "none"]
Combine = Literal["sum_then_normalise", "normalise_then_sum"]
Kind = Literal["grpo", "dr_grpo", "dapo", "bnpo", "gspo", "cispo"]
Moments = Callable[[Tensor], tuple[Tensor, Tensor]]  # mean and standard deviation of a batch
EPSILON = 1e-4  # keeps a group whose rewards hardly differ from being blown up


def moments_here(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of what this process holds."""
    return values.mean(), values.std()


def group_advantages(
    rewards: Tensor, size: int, scale: Scale = "group", moments: Moments = moments_here
) -> Tensor:
    """How much better each answer is than its group's mean (Shao et al., 2024, sec. 4.1.2).

    Args:
        rewards: (groups * size,), the answers of a group side by side.
        size: Answers to one prompt.
        scale: Divide by the standard deviation of the `group` or of the whole `batch`, or not at
            all, which removes the bias towards questions of middling difficulty (Liu et al., 2025).
        moments: Of the whole batch, where it is spread over processes.

    >>> group_advantages(torch.tensor([1.0, 1.0, 1.0, 1.0]), 4)  # nothing to prefer
    tensor([0., 0., 0., 0.])
    """
    if size < 2:
        raise UserError(f"A group needs at least 2 answers to compare, not {size}")
    groups = rewards.view(-1, size)
    centred = groups - groups.mean(1, keepdim=True)
    if scale == "group":
        centred = centred / (groups.std(1, keepdim=True) + EPSILON)
    elif scale == "batch":
        centred = centred / (moments(rewards)[1] + EPSILON)
    # rounding leaves a group of equal rewards a hair off 0, which the division would blow up
    return centred.where(groups.amax(1, keepdim=True) != groups.amin(1, keepdim=True), 0).flatten()


def combined_advantages(
    rewards: Mapping[str, Tensor],
    weights: Mapping[str, float],
    size: int,
    combine: Combine = "sum_then_normalise",
    scale: Scale = "group",
    moments: Moments = moments_here,
) -> Tensor:
    """One advantage from several rewards, each (groups * size,).

    `sum_then_normalise` adds the weighted rewards first, so that the one that varies most rules.
    `normalise_then_sum` (GDPO, Liu et al., 2026) compares within the group reward by reward, adds
    these up, and brings the sum over the batch to unit variance: no reward can drown another.
    """
    if combine == "sum_then_normalise":
        total = torch.stack([weights[name] * one for name, one in rewards.items()]).sum(0)
        return group_advantages(total, size, scale, moments)
    parts = [
        weights[name] * group_advantages(one, size, moments=moments)
        for name, one in rewards.items()
    ]
    total = torch.stack(parts).sum(0)
    return total / (moments(total)[1] + EPSILON)  # its mean is 0, group by group


def lagrangian_advantages(reward: Tensor, cost: Tensor, multiplier: float | Tensor) -> Tensor:
    """(A_R - lambda A_C) / (1 + lambda) (Safe RLHF, Dai et al., 2024, eq. 31), without a critic.

    >>> lagrangian_advantages(torch.tensor([1.0]), torch.tensor([1.0]), 3.0)
    tensor([-0.5000])
    """
    return (reward - multiplier * cost) / (1 + multiplier)


@dataclass(frozen=True)
class Clip:
    """How far one step may go.

    Args:
        low, high: The ratio of new to old probability is held in [1 - low, 1 + high].
        largest: Of CISPO, the largest weight a token can have.
    """

    low: float = 0.2
    high: float = 0.2
    largest: float = 5.0


def token_losses(
    new: Tensor,
    old: Tensor,
    advantages: Tensor,
    owners: Tensor,
    kind: Kind = "dapo",
    clip: Clip | None = None,
    reference: Tensor | None = None,
    beta: float = 0.0,
    unbiased: bool = True,
) -> Tensor:
    """The clipped policy loss of each token, plus beta times its KL to the reference.

    Args:
        new: log pi of each token, (n,).
        old: Of the policy that sampled it, (n,); `new.detach()` in a first pass.
        advantages: Of each answer, (answers,).
        owners: Which answer a token belongs to, (n,).
        kind: `gspo` (Zheng et al., 2025) has one ratio an answer, the geometric mean of its
            tokens'; `cispo` (MiniMax, 2025) weighs log pi by the clipped ratio and never drops a
            token's gradient; the others clip each token's ratio as PPO does.
        reference: log pi_ref of each token, where beta > 0; the KL is the k3 estimate
            exp(d) - d - 1 with d = log pi_ref - log pi (Schulman, 2020).
        unbiased: Weigh the KL by the ratio, which makes its gradient unbiased (DeepSeek-V3.2,
            2025, sec. 3.1).
    """
    clip = clip or Clip()
    change = new - old
    if kind == "gspo":
        counts = torch.bincount(owners, minlength=len(advantages)).clamp(min=1).to(new)
        change = (change.new_zeros(len(advantages)).index_add(0, owners, change) / counts)[owners]
    ratio, advantage = change.exp(), advantages[owners]
    if kind == "cispo":
        losses = -ratio.clamp(max=clip.largest).detach() * advantage * new
    else:
        held = ratio.clamp(1 - clip.low, 1 + clip.high)
        losses = -torch.minimum(ratio * advantage, held * advantage)
    if beta:
        if reference is None:
            raise UserError("A KL weight above 0 needs a reference", remedy="module.reference=auto")
        distance = reference - new
        divergence = distance.exp() - distance - 1
        losses = losses + beta * (divergence * ratio if unbiased else divergence)
    return losses


def token_weights(kind: Kind, lengths: Sequence[int] | Tensor, longest: int) -> Tensor:
    """What each answer's tokens are weighed with so that a sum over a step is the wanted mean.

    The sum over a step must still be divided by `step_total`.

    - `grpo`, `gspo`: the mean over answers of their token means.
    - `dr_grpo`: a sum over answers of `longest` tokens each, so that length is not rewarded.
    - `dapo`, `cispo`: the mean over all tokens of the step.
    - `bnpo`: the mean over micro-batches of the mean over their tokens.

    >>> token_weights("grpo", [2, 4], 8)
    tensor([0.5000, 0.2500])
    """
    lengths = torch.as_tensor(lengths, dtype=torch.float32)
    if kind in ("grpo", "gspo"):
        return 1 / lengths.clamp(min=1)
    if kind == "dr_grpo":
        return torch.full_like(lengths, 1 / longest)
    if kind == "bnpo":
        return torch.full_like(lengths, 1 / max(1.0, float(lengths.sum())))
    return torch.ones_like(lengths)


def step_total(kind: Kind, lengths: Sequence[int]) -> float:
    """What a micro-batch adds to the divisor of its step: answers, tokens, or itself.

    >>> step_total("grpo", [2, 4]), step_total("dapo", [2, 4]), step_total("bnpo", [2, 4])
    (2.0, 6.0, 1.0)
    """
    if kind in ("grpo", "gspo", "dr_grpo"):
        return float(len(lengths))
    return 1.0 if kind == "bnpo" else float(sum(lengths))
