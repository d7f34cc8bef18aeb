"""SwiGLU feed-forward layer [§2.1.2]. Legend: … leading axes, D model width, F inner width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)); also the shared experts, as one of their summed width."""

    def __init__(self, d_model: int, d_inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_inner, bias=False)
        self.up = nn.Linear(d_model, d_inner, bias=False)
        self.down = nn.Linear(d_inner, d_model, bias=False)

    def forward(self, x_D: Tensor) -> Tensor:
        y_D: Tensor = self.down(F.silu(self.gate(x_D)) * self.up(x_D))
        return y_D
