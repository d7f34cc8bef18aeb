"""Mixture of experts: shared experts for every token, routed ones by choice [§2.1.2, Eq. 12].

Legend: B rows, S tokens of a row, T = B·S, D model width, E routed experts, F expert width,
K experts a token. No token is dropped.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsv3data.kernels.cache import WeightCodes
from dsv3data.kernels.experts import fp8_experts, sorted_experts, weighted_swiglu
from dsv3data.model.config import ModelConfig, Precision
from dsv3data.model.mlp import SwiGLU
from dsv3data.model.recompute import remade
from dsv3data.model.router import Router, Routing


class RoutedExperts(nn.Module):
    """E SwiGLU experts, stacked; gate and up projection share one matrix (gate first)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts, width, inner = config.n_routed_experts, config.d_model, config.d_expert
        self.gate_up_EFD = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.down_EDF = nn.Parameter(torch.empty(experts, width, inner))
        self.precision: Precision = "fp32"
        self.codes = (WeightCodes(), WeightCodes())
        self.recompute = False

    def forward(self, x_TD: Tensor, routing: Routing) -> Tensor:
        """Weighted sum of each token's experts, [T, D]; `experts_per_token` is its slow twin."""
        weights = (self.gate_up_EFD, self.down_EDF)
        if self.precision == "fp8":
            return fp8_experts(x_TD, routing.experts_TK, routing.weights_TK, *weights, self.codes)
        if self.precision == "bf16":
            x_TD = x_TD.bfloat16()
        return sorted_experts(
            x_TD, routing.experts_TK, routing.weights_TK, *weights, gated=self._gated
        )

    def _gated(self, h_PF2: Tensor, weights_P1: Tensor) -> Tensor:
        if self.recompute:
            return remade(weighted_swiglu, h_PF2, weights_P1)
        return weighted_swiglu(h_PF2, weights_P1)


class MoE(nn.Module):
    """Shared experts plus routed experts; the residual connection is the block's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.router = Router(config)
        self.routed = RoutedExperts(config)
        self.shared = SwiGLU(config.d_model, config.n_shared_experts * config.d_expert)

    def forward(self, x_BSD: Tensor, valid_BS: Tensor) -> tuple[Tensor, Routing]:
        """x [B, S, D], valid bool [B, S] → ([B, S, D], what the router decided)."""
        routing = self.router(x_BSD, valid_BS)
        routed_TD = self.routed(x_BSD.flatten(0, 1), routing)
        return self.shared(x_BSD) + routed_TD.view_as(x_BSD), routing


def swiglu(x_VD: Tensor, gate_up_FD: Tensor, down_DF: Tensor) -> Tensor:
    """One expert on the tokens that visit it, [V, D] → [V, D]; V may be 0."""
    gate_VF, up_VF = F.linear(x_VD, gate_up_FD).chunk(2, dim=-1)
    return F.linear(F.silu(gate_VF) * up_VF, down_DF)


def experts_per_token(experts: RoutedExperts, x_TD: Tensor, routing: Routing) -> Tensor:
    """`RoutedExperts.forward` one token and one expert at a time, as Eq. 12 reads."""
    rows = []
    for x_D, chosen_K, weights_K in zip(
        x_TD, routing.experts_TK.tolist(), routing.weights_TK, strict=True
    ):
        row_1D = torch.zeros_like(x_D)[None]
        for expert, weight in zip(chosen_K, weights_K, strict=True):
            output_1D = swiglu(x_D[None], experts.gate_up_EFD[expert], experts.down_EDF[expert])
            row_1D = row_1D + weight * output_1D
        rows.append(row_1D)
    return torch.cat(rows)
