"""SwiGLU feed-forward layer [§2.1.2]. Legend: … leading axes, D model width, F inner width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dsv3data.kernels.cache import WeightCodes
from dsv3data.kernels.linear import fp8_swiglu_linear
from dsv3data.model.linear import Linear, in_one, side_by_side
from dsv3data.model.norm import RMSNorm
from dsv3data.model.recompute import remade


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)); also the shared experts, as one of their summed width."""

    def __init__(self, d_model: int, d_inner: int) -> None:
        super().__init__()
        self.gate = Linear(d_model, d_inner)
        self.up = Linear(d_model, d_inner)
        self.down = Linear(d_inner, d_model)
        self.codes = WeightCodes()  # of gate and up together
        self.recompute = False

    def forward(self, x_D: Tensor, norm: RMSNorm | None = None) -> Tensor:
        """The layer on x, or on norm(x), which is fused in FP8 as SwiGLU itself is."""
        into = (self.gate, self.up)
        if self.down.precision == "fp8":
            h_F2 = in_one(into, x_D, self.codes, norm)
            return fp8_swiglu_linear(h_F2, self.down.weight, codes=self.down.codes)
        halves = side_by_side(into, x_D, self.codes, norm)
        y_D: Tensor = self.down(remade(_gated, *halves) if self.recompute else _gated(*halves))
        return y_D


def _gated(gate_F: Tensor, up_F: Tensor) -> Tensor:
    return F.silu(gate_F) * up_F
