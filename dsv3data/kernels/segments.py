"""Where the visits of tokens to experts lie when they are sorted by expert.

Each expert owns a segment of whole tiles, so that a tile of a GEMM meets one expert and 128 rows of
a weight gradient belong to one. Everything is computed where the choices are, without the host
asking for a count: sizes depend on T, K and E alone.

Legend: T tokens, K visits of a token, V = T·K visits, P slots, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dsv3data.kernels.formats import TILE


@dataclass(frozen=True, kw_only=True)
class Segments:
    """A permutation of visits to slots with room between the experts."""

    visit_of_slot_P: Tensor  # int64, -1 in padding
    token_of_slot_P: Tensor  # int64, -1 in padding
    slots_TK: Tensor  # int64: where each visit lies
    starts_E1: Tensor  # int32 [E + 1]: first slot of each expert, and the end of the last
    tile_experts: Tensor  # int32 [P / tile], -1 past the last segment


def segments_of(experts_TK: Tensor, n_experts: int, *, tile: int = TILE) -> Segments:
    """Visits of an expert keep their order. At most E · (tile - 1) slots are padding.

    With `tile` 1 there is no padding: what a GEMM without tiles of its own wants.
    """
    n_visits, top_k = experts_TK.numel(), experts_TK.shape[1]
    n_slots = (n_visits + n_experts * (tile - 1)) // tile * tile
    device = experts_TK.device
    experts_V, order_V = experts_TK.flatten().sort(stable=True)
    bounds_E1 = torch.searchsorted(experts_V, torch.arange(n_experts + 1, device=device))
    sizes_E = (bounds_E1.diff() + tile - 1) // tile * tile
    starts_E1 = torch.cat((sizes_E.new_zeros(1), sizes_E.cumsum(0)))
    slots_V = (starts_E1 - bounds_E1)[experts_V] + torch.arange(n_visits, device=device)
    visit_of_slot_P = torch.full((n_slots,), -1, device=device).scatter_(0, slots_V, order_V)
    token_of_slot_P = torch.div(visit_of_slot_P, top_k, rounding_mode="floor")
    firsts = torch.arange(0, n_slots, tile, device=device)
    tile_experts = torch.searchsorted(starts_E1[1:], firsts, right=True)
    tile_experts = torch.where(tile_experts < n_experts, tile_experts, -1)
    return Segments(
        visit_of_slot_P=visit_of_slot_P,
        token_of_slot_P=token_of_slot_P,
        slots_TK=torch.empty_like(order_V).scatter_(0, order_V, slots_V).view_as(experts_TK),
        starts_E1=starts_E1.to(torch.int32),
        tile_experts=tile_experts.to(torch.int32),
    )
