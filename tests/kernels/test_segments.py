"""The expert-sorted layout: every visit once, whole tiles, sizes that need no count."""

from __future__ import annotations

import pytest
import torch

from dsv3data.kernels.segments import Segments, segments_of


def layouts(tile: int) -> list[tuple[torch.Tensor, int, Segments]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for experts in (1, 2, 7):
        for tokens in (0, 1, 130, 300):
            chosen = torch.randint(0, experts, (tokens, 3), generator=generator)
            for routing in (chosen, torch.full_like(chosen, experts - 1)):
                found.append((routing, experts, segments_of(routing, experts, tile=tile)))
    return found


@pytest.mark.parametrize("tile", [1, 128])
def test_every_visit_has_one_slot_of_its_expert(tile: int) -> None:
    empty_experts = 0
    for chosen, experts, segments in layouts(tile):
        n_slots = (chosen.numel() + experts * (tile - 1)) // tile * tile
        assert len(segments.visit_of_slot_P) == n_slots
        held = segments.visit_of_slot_P[segments.visit_of_slot_P >= 0]
        assert sorted(held.tolist()) == list(range(chosen.numel()))
        slots = segments.slots_TK.flatten()
        assert torch.equal(segments.visit_of_slot_P[slots], torch.arange(chosen.numel()))
        assert torch.equal(segments.token_of_slot_P[slots], torch.arange(chosen.numel()) // 3)
        starts = segments.starts_E1.tolist()
        for expert in range(experts):
            inside = (slots >= starts[expert]) & (slots < starts[expert + 1])
            assert torch.equal(inside, chosen.flatten() == expert)
            empty_experts += not inside.any()
            assert starts[expert] % tile == 0
            of_tiles = segments.tile_experts[starts[expert] // tile : starts[expert + 1] // tile]
            assert (of_tiles == expert).all()
        assert (segments.tile_experts[starts[-1] // tile :] == -1).all()
    assert empty_experts > 10


def test_visits_of_an_expert_keep_their_order() -> None:
    segments = segments_of(torch.tensor([[1, 0], [1, 0], [0, 1]]), 2, tile=1)
    assert segments.visit_of_slot_P.tolist() == [1, 3, 4, 0, 2, 5]
