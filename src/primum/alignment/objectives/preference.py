"""The DPO family: what makes a model prefer one answer to another.

Each loss takes the log-probabilities of both answers and gives one value a pair. With s(y) the sum
over an answer's tokens, r(y) = s(y) - s_ref(y) and n(y) its length, `delta` is r(chosen) -
r(rejected).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from primum.errors import UserError


@dataclass(frozen=True)
class Pairs:
    """Summed log-probabilities of preferred and other answers to the same prompts, all (pairs,).

    Args:
        chosen, rejected: Of the policy.
        chosen_tokens, rejected_tokens: Lengths of the answers.
        reference_chosen, reference_rejected: Of the frozen reference; None without one.
        margin: How much better the chosen one is (a difference of rubric scores); None if unknown.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    margin: Tensor | None = None

    @property
    def chosen_ratio(self) -> Tensor:
        """log pi / pi_ref of the chosen answers."""
        return self.chosen - self._given(self.reference_chosen)

    @property
    def rejected_ratio(self) -> Tensor:
        """log pi / pi_ref of the rejected answers."""
        return self.rejected - self._given(self.reference_rejected)

    @property
    def delta(self) -> Tensor:
        """How much more the policy prefers the chosen answer than the reference does."""
        return self.chosen_ratio - self.rejected_ratio

    @property
    def delta_per_token(self) -> Tensor:
        """`delta` with each ratio divided by its answer's length."""
        return self.chosen_ratio / self.chosen_tokens - self.rejected_ratio / self.rejected_tokens

    @staticmethod
    def _given(reference: Tensor | None) -> Tensor:
        if reference is None:
            raise UserError(
                "This objective compares with a reference model and there is none",
                remedy="module.reference=auto, or one without: module=simpo, cpo or orpo",
            )
        return reference


PairLoss = Callable[[Pairs], Tensor]


def smoothed(logits: Tensor, smoothing: float) -> Tensor:
    """-log sigmoid of the logits, a share of the labels being taken for wrong (cDPO)."""
    if not smoothing:
        return -F.logsigmoid(logits)
    return -(1 - smoothing) * F.logsigmoid(logits) - smoothing * F.logsigmoid(-logits)


def sigmoid(pairs: Pairs, beta: float = 0.1, smoothing: float = 0.0) -> Tensor:
    """DPO (Rafailov et al., 2023, eq. 7); with smoothing, conservative DPO (Mitchell, 2023).

    >>> same = torch.zeros(1)
    >>> sigmoid(Pairs(same, same, same + 1, same + 1, same, same))  # log 2
    tensor([0.6931])
    """
    return smoothed(beta * pairs.delta, smoothing)


def robust(pairs: Pairs, beta: float = 0.1, smoothing: float = 0.1) -> Tensor:
    """Robust DPO (Chowdhury et al., 2024, eq. 12): unbiased when a share of labels is flipped."""
    if not 0 <= smoothing < 0.5:
        raise UserError(f"The share of flipped labels lies in [0, 0.5), not at {smoothing}")
    logits = beta * pairs.delta
    kept, flipped = -F.logsigmoid(logits), -F.logsigmoid(-logits)
    return ((1 - smoothing) * kept - smoothing * flipped) / (1 - 2 * smoothing)


def ipo(pairs: Pairs, beta: float = 0.1) -> Tensor:
    """IPO (Azar et al., 2024, eq. 17), on per-token averages as its authors compute it."""
    return (pairs.delta_per_token - 1 / (2 * beta)).square()


def hinge(pairs: Pairs, beta: float = 0.1) -> Tensor:
    """SLiC's hinge (Zhao et al., 2023) on the implicit reward."""
    return (1 - beta * pairs.delta).relu()


def offset(pairs: Pairs, beta: float = 0.1, alpha: float = 1.0, smoothing: float = 0.0) -> Tensor:
    """DPO with an offset (Amini et al., 2024, eq. 8): the preference must exceed alpha * margin.

    Raises:
        UserError: The pairs carry no margin.
    """
    if pairs.margin is None:
        raise UserError(
            "Offset DPO needs a margin with each pair and the data has none",
            remedy="add a column `margin` (a difference of rubric means), or use module=dpo",
        )
    return smoothed(beta * pairs.delta - alpha * pairs.margin, smoothing)


def sigmoid_norm(pairs: Pairs, beta: float = 0.1, smoothing: float = 0.0) -> Tensor:
    """DPO on per-token averages, so that long answers do not weigh more (LN-DPO in Tulu 3)."""
    return smoothed(beta * pairs.delta_per_token, smoothing)


def simpo(pairs: Pairs, beta: float = 2.0, gamma: float = 1.0, smoothing: float = 0.0) -> Tensor:
    """SimPO (Meng et al., 2024, eq. 6): per-token likelihoods, a target margin, no reference."""
    chosen, rejected = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    return smoothed(beta * (chosen - rejected) - gamma, smoothing)


def cpo(pairs: Pairs, beta: float = 0.1, alpha: float = 1.0, smoothing: float = 0.0) -> Tensor:
    """CPO (Xu et al., 2024, eq. 7): DPO against a uniform reference, and alpha * NLL per token."""
    likelihood = pairs.chosen / pairs.chosen_tokens
    return smoothed(beta * (pairs.chosen - pairs.rejected), smoothing) - alpha * likelihood


def orpo(pairs: Pairs, beta: float = 0.1) -> Tensor:
    """ORPO (Hong et al., 2024, eq. 6): NLL per token plus beta times the log odds ratio's loss."""
    chosen, rejected = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    log_odds = (chosen - log1mexp(chosen)) - (rejected - log1mexp(rejected))
    return -chosen - beta * F.logsigmoid(log_odds)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, without cancellation (Maechler, 2012).

    >>> log1mexp(torch.tensor([-1e-7, -0.5, -50.0])).exp()
    tensor([1.0000e-07, 3.9347e-01, 1.0000e+00])
    """
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)  # a certain answer has odds beyond floats
    near = x > -math.log(2)
    close = torch.log(-torch.expm1(torch.where(near, x, -1.0)))
    far = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, close, far)
