"""What training minimises, as pure functions of log-probabilities, scores and rewards."""

from primum.alignment.objectives.likelihood import (
    only_positions,
    sequence_logprobs,
    supervised_logits,
    token_logprobs,
)
from primum.alignment.objectives.supervised import negative_log_likelihood

__all__ = [
    "negative_log_likelihood",
    "only_positions",
    "sequence_logprobs",
    "supervised_logits",
    "token_logprobs",
]
