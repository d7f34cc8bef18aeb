"""SwiGLU feed-forward layer [§2.1.2]. Legend: … leading axes, D model width, F inner width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dsv3data.model.linear import Linear
from dsv3data.model.recompute import remade


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)); also the shared experts, as one of their summed width."""

    def __init__(self, d_model: int, d_inner: int) -> None:
        super().__init__()
        self.gate = Linear(d_model, d_inner)
        self.up = Linear(d_model, d_inner)
        self.down = Linear(d_inner, d_model)
        self.recompute = False

    def forward(self, x_D: Tensor) -> Tensor:
        halves = self.gate(x_D), self.up(x_D)
        y_D: Tensor = self.down(remade(_gated, *halves) if self.recompute else _gated(*halves))
        return y_D


def _gated(gate_F: Tensor, up_F: Tensor) -> Tensor:
    return F.silu(gate_F) * up_F
