"""One transformer block: pre-norm attention, pre-norm feed-forward [§2.1, Fig. 2].

Legend: B rows, T tokens of a row, D model width.
"""

from __future__ import annotations

from torch import Tensor, nn

from dsv3data.model.attention import Mask
from dsv3data.model.config import ModelConfig
from dsv3data.model.mla import MLA
from dsv3data.model.mlp import SwiGLU
from dsv3data.model.moe import MoE
from dsv3data.model.norm import RMSNorm
from dsv3data.model.router import Routing


class Block(nn.Module):
    """x + attention(norm(x)), then + ffn(norm(x)), where ffn is dense or a mixture of experts."""

    def __init__(self, config: ModelConfig, *, dense: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = MLA(config)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn = SwiGLU(config.d_model, config.d_ff_dense) if dense else MoE(config)

    def forward(
        self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], valid_BT: Tensor, mask: Mask = None
    ) -> tuple[Tensor, Routing | None]:
        """[B, T, D] → [B, T, D] and the routing, None in a dense block; `mask` as in `MLA`."""
        x_BTD = x_BTD + self.attention(x_BTD, rope, mask, self.attention_norm)
        if isinstance(self.ffn, MoE):
            y_BTD, routing = self.ffn(self.ffn_norm(x_BTD), valid_BT)
            return x_BTD + y_BTD, routing
        return x_BTD + self.ffn(x_BTD, self.ffn_norm), None
