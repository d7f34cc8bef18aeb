"""Reading over latent caches equals reading the whole row at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dsv3data.generation import decoder as decoder_module
from dsv3data.generation.decoder import Decoder
from dsv3data.model.config import YarnConfig
from tiny_models import random_model, small_config

SHAPES: list[dict[str, Any]] = [
    {},
    {"mtp_hidden": "before_final_norm", "mtp_input_order": "hidden_embedding"},
    {"yarn": YarnConfig(factor=4.0, original_context=12)},
    {"n_dense_layers": 3},
]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("parts", [[20], [1] * 20, [7, 1, 2, 10]], ids=str)
@torch.no_grad()
def test_any_parts_give_the_states_and_guesses_of_the_whole(
    changes: dict[str, Any], parts: list[int]
) -> None:
    model = random_model(small_config(mtp_depth=1, **changes))
    ids_T = torch.randint(0, 128, (20,), generator=torch.Generator().manual_seed(1))
    whole = model(ids_T[None])
    decoder = Decoder(model, 20)
    logits, guesses, states = [], [], []
    for part in torch.split(ids_T, parts):
        states.append(decoder.read(part))
        logits.append(decoder.logits(states[-1]))
        seen = decoder.length
        unread = torch.cat(states)[decoder.mtp_length : seen - 1]
        if len(unread):
            behind = ids_T[decoder.mtp_length + 1 : seen]
            guesses.append(model.logits(decoder.look_ahead(unread, behind)))
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(torch.cat(logits), model.logits(whole.hidden_BTD[0]), **close)
    torch.testing.assert_close(torch.cat(guesses), model.logits(whole.mtp_hidden_BTD[0]), **close)


@torch.no_grad()
def test_what_was_read_in_vain_is_forgotten() -> None:
    model = random_model(small_config())
    straight, back = Decoder(model, 8), Decoder(model, 8)
    straight.read(torch.tensor([5, 6]))
    back.read(torch.tensor([5, 9]))
    back.forget(1)
    back.read(torch.tensor([6]))
    last = torch.tensor([7])
    torch.testing.assert_close(back.read(last), straight.read(last), rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_a_long_text_is_read_in_parts_that_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(small_config(mtp_depth=1))
    ids = torch.randint(0, 128, (20,), generator=torch.Generator().manual_seed(1))
    at_once = Decoder(model, 20)
    states = at_once.read(ids)
    ahead = at_once.look_ahead(states[:-1], ids[1:])
    seen: list[int] = []
    real = decoder_module.attend

    def attend(attention: Any, cache: Any, start: int, x_SD: torch.Tensor, rope: Any) -> Any:
        seen.append(attention.n_heads * len(x_SD) * (start + len(x_SD)))
        return real(attention, cache, start, x_SD, rope)

    monkeypatch.setattr(decoder_module, "attend", attend)
    monkeypatch.setattr(decoder_module, "SCORES", 3 * 20 * 6)
    in_parts = Decoder(model, 20)
    torch.testing.assert_close(in_parts.read(ids), states, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        in_parts.look_ahead(states[:-1], ids[1:]), ahead, rtol=1e-5, atol=1e-5
    )
    assert len(seen) == 4 * (3 + 1)  # parts of 6, 6, 6 and 2; layers and the MTP module
    assert 3 * 18 * 6 in seen
    assert max(seen) <= decoder_module.SCORES
