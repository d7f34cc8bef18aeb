"""Multi-token prediction: what is joined with what, and in which order."""

from __future__ import annotations

import pytest
import torch

from dsv3data.model.rope import rope_tables
from dsv3data.model.transformer import Transformer
from tiny_models import random_model, small_config

IDS = torch.randint(3, 128, (2, 10), generator=torch.Generator().manual_seed(0))


def mtp_model(**changes: str) -> Transformer:
    return random_model(small_config(mtp_depth=1, **changes))


def test_position_i_joins_hidden_i_with_the_embedding_of_token_i_plus_1() -> None:
    model = mtp_model()
    assert model.mtp is not None
    output = model(IDS)
    tables = rope_tables(model.config, 9, torch.device("cpu"))
    expected, _ = model.mtp(
        output.hidden_BTD[:, :-1],
        model.embedding(IDS[:, 1:]),
        tables,
        torch.ones(2, 9, dtype=torch.bool),
    )
    assert output.mtp_hidden_BTD is not None
    torch.testing.assert_close(output.mtp_hidden_BTD, expected)


@pytest.mark.parametrize("order", ["hidden_embedding", "embedding_hidden"])
def test_join_follows_the_configured_order(order: str) -> None:
    model = mtp_model(mtp_input_order=order)
    assert model.mtp is not None
    hidden, embedding = torch.zeros(1, 2, 48), torch.ones(1, 2, 48)
    joined = model.mtp.join(hidden, embedding)
    first = 0.0 if order == "hidden_embedding" else 1.0
    assert (joined[..., :48] == first).all()
    assert (joined[..., 48:] == 1 - first).all()


def test_the_two_orders_are_one_model_with_exchanged_halves() -> None:
    paper, released = (
        mtp_model(mtp_input_order="hidden_embedding"),
        mtp_model(mtp_input_order="embedding_hidden"),
    )
    state = released.state_dict()
    embedding_half, hidden_half = state["mtp.projection.weight"].chunk(2, dim=1)
    state["mtp.projection.weight"] = torch.cat((hidden_half, embedding_half), dim=1)
    paper.load_state_dict(state)
    torch.testing.assert_close(paper(IDS).mtp_hidden_BTD, released(IDS).mtp_hidden_BTD)


def test_state_before_or_after_the_final_norm_is_a_choice() -> None:
    after = mtp_model(mtp_hidden="after_final_norm")
    before = mtp_model(mtp_hidden="before_final_norm")
    assert after.mtp is not None
    torch.testing.assert_close(after(IDS).hidden_BTD, before(IDS).hidden_BTD)
    difference = after(IDS).mtp_hidden_BTD - before(IDS).mtp_hidden_BTD
    assert difference.abs().max() > 1e-3


def test_the_norm_before_the_head_is_there() -> None:
    model = mtp_model()
    assert model.mtp is not None
    hidden = model(IDS).mtp_hidden_BTD / model.mtp.final_norm.weight
    torch.testing.assert_close(hidden.square().mean(-1), torch.ones(2, 9), rtol=1e-3, atol=1e-3)


def test_mtp_sees_one_token_more_than_the_main_model_and_nothing_later() -> None:
    model, changed = mtp_model(), IDS.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 128
    before, after = model(IDS).mtp_hidden_BTD, model(changed).mtp_hidden_BTD
    torch.testing.assert_close(before[:, :5], after[:, :5])  # position 4 has seen tokens 0..5
    assert (before[:, 5] - after[:, 5]).abs().max() > 1e-3


def test_without_the_module_or_a_second_token_there_is_no_mtp_output() -> None:
    assert random_model(small_config())(IDS).mtp_hidden_BTD is None
    assert mtp_model()(IDS[:, :1]).mtp_hidden_BTD is None


def test_routings_are_one_per_router_with_the_mtp_block_last() -> None:
    model = mtp_model()
    valid = torch.arange(10) < torch.tensor([[10], [6]])
    routings = model(IDS, valid).routings
    assert len(routings) == len(model.routers()) == 3
    assert [int(routing.load_E.sum()) for routing in routings] == [16 * 3, 16 * 3, 14 * 3]
