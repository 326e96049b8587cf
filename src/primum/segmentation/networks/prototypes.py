"""The DINO head: which of K prototypes a query looks like."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PrototypeHead(nn.Module):
    """Three linear layers, unit length, then the cosine with each prototype.

    After DINO's projection head (Caron et al., 2021), whose weight-normalised last layer with a
    fixed norm of one is this cosine.

    Args:
        width: Of what comes in.
        prototypes: K.
        hidden: Of the linear layers between.
        bottleneck: Of the space in which prototypes live.
    """

    def __init__(
        self, width: int, prototypes: int = 512, hidden: int = 2048, bottleneck: int = 256
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )  # fmt: skip
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.normal_(self.prototypes)

    def forward(self, queries: Tensor) -> Tensor:
        """(..., width) to (..., K) cosines."""
        found = functional.normalize(self.layers(queries), dim=-1)
        return found @ functional.normalize(self.prototypes, dim=-1).T
