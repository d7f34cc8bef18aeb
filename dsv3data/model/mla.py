"""Multi-head latent attention [§2.1.1, Eq. 1-11].

Legend: B batch, T tokens, D model width, H heads, N = d_qk_nope, R = d_qk_rope, V = d_v,
Q = q_lora_rank, C = kv_lora_rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsv3data.kernels.cache import WeightCodes
from dsv3data.model.attention import Mask, attend
from dsv3data.model.config import AttentionBackend, ModelConfig
from dsv3data.model.linear import Linear, side_by_side
from dsv3data.model.norm import RMSNorm
from dsv3data.model.recompute import remade
from dsv3data.model.rope import rotate, softmax_scale


class MLA(nn.Module):
    """Causal attention whose keys and values come from one latent vector of C numbers a token.

    Queries pass a latent of Q numbers as well. Each head's query and key has N numbers without
    position and R with rotary position; the R numbers of the key are shared by all heads.
    Its up-projections can be made again in the backward pass, from the latents [§3.2.3].
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.d_qk_nope, self.d_qk_rope, self.d_v = config.d_qk_nope, config.d_qk_rope, config.d_v
        self.kv_lora_rank = config.kv_lora_rank
        self.softmax_scale = softmax_scale(config)
        d_qk = config.d_qk_nope + config.d_qk_rope
        self.q_down = Linear(config.d_model, config.q_lora_rank)
        self.q_norm = RMSNorm(config.q_lora_rank, config.norm_eps)
        self.q_up = Linear(config.q_lora_rank, config.n_heads * d_qk)
        self.kv_down = Linear(config.d_model, config.kv_lora_rank + config.d_qk_rope)
        self.kv_norm = RMSNorm(config.kv_lora_rank, config.norm_eps)
        self.kv_up = Linear(config.kv_lora_rank, config.n_heads * (config.d_qk_nope + config.d_v))
        self.out = Linear(config.n_heads * config.d_v, config.d_model, keep_input="e5m6")
        self.down_codes = WeightCodes()  # of both down-projections together
        self.backend: AttentionBackend = "sdpa"
        self.recompute = False

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Mask = None,
        norm: RMSNorm | None = None,
    ) -> Tensor:
        """x [B, T, D] → [B, T, D].

        Args:
            rope: tables of the tokens' positions, [T, R / 2] or one for each row.
            mask: who sees whom, of `mask_for`; None is causal.
            norm: what x passes first.
        """
        latent_BTQ, down_BTL = side_by_side(
            (self.q_down, self.kv_down), x_BTD, self.down_codes, norm
        )
        key_BTHq, value_BTHV = self.keys_and_values(down_BTL, rope)
        heads_BTHV = attend(
            self.queries(latent_BTQ, rope),
            key_BTHq,
            value_BTHV,
            mask,
            scale=self.softmax_scale,
            backend=self.backend,
        )
        mixed_BTD: Tensor = self.out(heads_BTHV.flatten(2))
        return mixed_BTD

    def queries(self, latent_BTQ: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """What `q_down` gives, [Eq. 7-9] → [B, T, H, N + R]."""

        def up(latent_BTQ: Tensor) -> Tensor:
            up_BTH = self.q_up.after_norm(self.q_norm, latent_BTQ)
            query_BTHq = torch.unflatten(up_BTH, -1, (self.n_heads, -1))
            plain, turned = torch.split(query_BTHq, [self.d_qk_nope, self.d_qk_rope], dim=-1)
            return torch.cat((plain, rotate(turned, rope)), dim=-1)

        if not self.recompute:
            return up(latent_BTQ)
        return remade(up, latent_BTQ, weights=(self.q_norm.weight, self.q_up.weight))

    def keys_and_values(
        self, down_BTL: Tensor, rope: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What `kv_down` gives, [Eq. 2-5] → keys [B, T, H, N + R], values [B, T, H, V]."""

        def up(down_BTL: Tensor) -> tuple[Tensor, ...]:
            latent_BTC, shared_BTR = torch.split(
                down_BTL, [self.kv_lora_rank, self.d_qk_rope], dim=-1
            )
            up_BTH = self.kv_up.after_norm(self.kv_norm, latent_BTC)
            up_BTH = torch.unflatten(up_BTH, -1, (self.n_heads, -1))
            key_BTHN, value_BTHV = torch.split(up_BTH, [self.d_qk_nope, self.d_v], dim=-1)
            shared_BT1R = rotate(shared_BTR.unsqueeze(2), rope)
            shared_BTHR = shared_BT1R.expand(-1, -1, self.n_heads, -1)
            return torch.cat((key_BTHN, shared_BTHR), dim=-1), value_BTHV

        if not self.recompute:
            key_BTHq, value_BTHV = up(down_BTL)
        else:
            weights = (self.kv_norm.weight, self.kv_up.weight)
            key_BTHq, value_BTHV = remade(up, down_BTL, weights=weights)
        return key_BTHq, value_BTHV
