"""Multi-token prediction: one more block that predicts the token after the next [§2.2, Eq. 21-25].

Legend: B rows, T positions that have a next token, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsv3data.model.attention import Mask
from dsv3data.model.block import Block
from dsv3data.model.config import ModelConfig
from dsv3data.model.linear import Linear
from dsv3data.model.norm import RMSNorm
from dsv3data.model.router import Routing


class MTPModule(nn.Module):
    """Depth 1. Embedding and output head belong to the main model and are shared."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_order = config.mtp_input_order
        self.hidden_norm = RMSNorm(config.d_model, config.norm_eps)
        self.embedding_norm = RMSNorm(config.d_model, config.norm_eps)
        self.projection = Linear(2 * config.d_model, config.d_model)
        self.block = Block(config, dense=False)
        # Not in the paper's equations, but in the released weights (`shared_head.norm`).
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)

    def forward(
        self,
        hidden_BTD: Tensor,
        next_embedding_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        valid_BT: Tensor,
        mask: Mask = None,
    ) -> tuple[Tensor, Routing]:
        """Hidden state of token i and embedding of token i+1 → state that predicts token i+2."""
        joined = self.join(self.hidden_norm(hidden_BTD), self.embedding_norm(next_embedding_BTD))
        output_BTD, routing = self.block(self.projection(joined), rope, valid_BT, mask)
        return self.final_norm(output_BTD), routing

    def join(self, hidden_BTD: Tensor, embedding_BTD: Tensor) -> Tensor:
        """Concatenate in the configured order: Eq. 21's or the released weights' [B, T, 2D]."""
        if self.input_order == "hidden_embedding":
            return torch.cat((hidden_BTD, embedding_BTD), dim=-1)
        return torch.cat((embedding_BTD, hidden_BTD), dim=-1)
