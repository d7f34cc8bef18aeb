"""Attention over a cache of latents [§2.1.1]: C + R numbers a token and layer, for all heads.

The up-projection of keys is absorbed into the query and that of values into the output, so cached
tokens are never expanded to their H keys and values. The same sums as in `model.mla` in another
order: equal but for rounding.

Legend: S new tokens, T tokens so far with the new ones, D model width, H heads, N = d_qk_nope,
R = d_qk_rope, V = d_v, C = kv_lora_rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv3data.model.config import ModelConfig
from dsv3data.model.mla import MLA
from dsv3data.model.rope import rotate


class LatentCache:
    """Normed latents [capacity, C] and turned shared keys [capacity, R] of one layer.

    Positions beyond those written hold nothing; who writes position p forgets what stood there.
    """

    def __init__(self, config: ModelConfig, capacity: int, like: Tensor) -> None:
        self.latents_TC = like.new_zeros(capacity, config.kv_lora_rank)
        self.keys_TR = like.new_zeros(capacity, config.d_qk_rope)


def attend(
    attention: MLA, cache: LatentCache, start: int, x_SD: Tensor, rope: tuple[Tensor, Tensor]
) -> Tensor:
    """Attention of the tokens at positions start, start + 1, … over all up to themselves.

    Args:
        cache: holds positions 0 to start - 1; the new ones are written to it.
        x_SD: normed states of the new tokens.
        rope: tables of their positions, [S, R / 2].

    Returns:
        [S, D].
    """
    n_new = len(x_SD)
    stop = start + n_new
    latent_SC, shared_SR = attention.kv_down(x_SD).split(
        (attention.kv_lora_rank, attention.d_qk_rope), dim=-1
    )
    cache.latents_TC[start:stop] = attention.kv_norm(latent_SC)
    cache.keys_TR[start:stop] = rotate(shared_SR[None, :, None], rope)[0, :, 0]
    latents_TC, keys_TR = cache.latents_TC[:stop], cache.keys_TR[:stop]

    plain_SHN, turned_SHR = torch.split(
        attention.queries(attention.q_down(x_SD[None]), rope)[0],
        [attention.d_qk_nope, attention.d_qk_rope],
        dim=-1,
    )
    up_HuC = torch.unflatten(attention.kv_up.weight.to(x_SD.dtype), 0, (attention.n_heads, -1))
    key_up_HNC, value_up_HVC = torch.split(up_HuC, [attention.d_qk_nope, attention.d_v], dim=1)
    query_SHC = torch.einsum("shn,hnc->shc", plain_SHN, key_up_HNC)
    scores_HST = torch.einsum("shc,tc->hst", query_SHC, latents_TC)
    scores_HST += torch.einsum("shr,tr->hst", turned_SHR, keys_TR)
    positions_T = torch.arange(stop, device=x_SD.device)
    future_ST = positions_T > positions_T[start:, None]
    scores_HST.mul_(attention.softmax_scale).masked_fill_(future_ST, float("-inf"))
    weights_HST = torch.softmax(scores_HST.float(), dim=-1).to(x_SD.dtype)
    mixed_SHC = torch.einsum("hst,tc->shc", weights_HST, latents_TC)
    heads_SHV = torch.einsum("shc,hvc->shv", mixed_SHC, value_up_HVC)
    output_SD: Tensor = attention.out(heads_SHV.flatten(1))
    return output_SD
