"""The router against the paper's equations written out token by token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dsv3data.model.router import (
    Router,
    choose_experts,
    expert_load,
    gate_weights,
    sequence_balance_loss,
    update_bias,
)
from tiny_models import small_config


def choose_slowly(biased: list[float], top_k: int, n_groups: int, top_k_groups: int) -> set[int]:
    """[§2.1.2] for one token: best groups by their two best experts, best experts inside."""
    size = len(biased) // n_groups
    groups = [range(group * size, (group + 1) * size) for group in range(n_groups)]

    def group_score(group: range) -> float:
        return sum(sorted((biased[expert] for expert in group), reverse=True)[:2])

    kept = sorted(groups, key=group_score, reverse=True)[:top_k_groups]
    reachable = [expert for group in kept for expert in group]
    return set(sorted(reachable, key=lambda expert: biased[expert], reverse=True)[:top_k])


def test_choice_equals_the_equations_also_where_scores_are_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    limited = negative = 0
    for _ in range(20):
        bias_E = torch.randn(16, generator=generator) - 1.0
        biased_TE = torch.rand(32, 16, generator=generator) + bias_E
        chosen_TK = choose_experts(biased_TE, top_k=4, n_groups=4, top_k_groups=2)
        for biased_E, chosen_K in zip(biased_TE.tolist(), chosen_TK.tolist(), strict=True):
            assert set(chosen_K) == choose_slowly(biased_E, 4, 4, 2)
            limited += set(chosen_K) != set(torch.tensor(biased_E).topk(4).indices.tolist())
            negative += any(biased_E[expert] < 0 for expert in chosen_K)
    assert limited > 50
    assert negative > 50  # a mask of 0 instead of -inf would choose a dropped group's expert here


def test_the_bias_decides_who_is_chosen_but_not_how_much_he_weighs() -> None:
    scores_TE = torch.tensor([[0.9, 0.8, 0.3, 0.2]])
    bias_E = torch.tensor([0.0, -1.0, 0.0, 0.5])
    chosen_TK = choose_experts(scores_TE + bias_E, top_k=2, n_groups=1, top_k_groups=1)
    assert sorted(chosen_TK[0].tolist()) == [0, 3]
    weights = dict(
        zip(chosen_TK[0].tolist(), gate_weights(scores_TE, chosen_TK, 2.5)[0].tolist(), strict=True)
    )
    assert weights[0] == pytest.approx(2.5 * 0.9 / 1.1)
    assert weights[3] == pytest.approx(2.5 * 0.2 / 1.1)


def test_scores_are_computed_in_fp32_whatever_comes_in() -> None:
    router = Router(small_config())
    torch.nn.init.normal_(router.weight_ED)
    x = torch.randn(4, 48)
    assert router.scores(x.bfloat16()).dtype == torch.float32
    expected = torch.sigmoid(x.bfloat16().float() @ router.weight_ED.T)
    torch.testing.assert_close(router.scores(x.bfloat16()), expected)


def test_load_counts_every_valid_token_top_k_times_and_padding_never() -> None:
    router = Router(small_config())
    torch.nn.init.normal_(router.weight_ED)
    valid_BS = torch.arange(10) < torch.tensor([[10], [4], [0]])
    routing = router(torch.randn(3, 10, 48), valid_BS)
    assert int(routing.load_E.sum()) == 14 * 3
    by_hand = torch.zeros(16, dtype=torch.int64)
    for valid, chosen_K in zip(valid_BS.flatten().tolist(), routing.experts_TK, strict=True):
        by_hand[chosen_K] += int(valid)
    assert torch.equal(routing.load_E, by_hand)


def test_an_expert_without_a_token_has_load_zero() -> None:
    load_E = expert_load(torch.tensor([[0, 1], [0, 1]]), torch.tensor([True, True]), 4)
    assert load_E.tolist() == [2, 2, 0, 0]


def balance_loss_slowly(scores_SE: Tensor, top_k: int) -> float:
    """Eq. 17-20 for one row, without alpha."""
    n_tokens, n_experts = scores_SE.shape
    total = 0.0
    for expert in range(n_experts):
        hits = sum(
            expert in sorted(range(n_experts), key=lambda e: -row[e])[:top_k]
            for row in scores_SE.tolist()
        )
        fraction = n_experts / (top_k * n_tokens) * hits
        share = sum(row[expert] / math.fsum(row) for row in scores_SE.tolist()) / n_tokens
        total += fraction * share
    return total


def test_sequence_balance_loss_equals_the_equations_and_ignores_padding() -> None:
    scores_BSE = torch.rand(3, 9, 8, generator=torch.Generator().manual_seed(1))
    lengths = [9, 5, 1]
    valid_BS = torch.arange(9) < torch.tensor(lengths)[:, None]
    expected = [
        balance_loss_slowly(scores_SE[:length], 2)
        for scores_SE, length in zip(scores_BSE, lengths, strict=True)
    ]
    loss = sequence_balance_loss(scores_BSE, valid_BS, 2)
    assert float(loss) == pytest.approx(sum(expected) / 3, rel=1e-6)


def test_sequence_balance_loss_is_1_when_even_and_grows_when_not() -> None:
    even = torch.eye(4).repeat(1, 2, 1).reshape(1, 8, 4) + 0.1
    valid = torch.ones(1, 8, dtype=torch.bool)
    assert float(sequence_balance_loss(even, valid, 1)) == pytest.approx(1.0)
    uneven = torch.tensor([0.9, 0.1, 0.1, 0.1]).repeat(1, 8, 1)
    assert float(sequence_balance_loss(uneven, valid, 1)) == pytest.approx(4 * 0.9 / 1.2)


def test_sequence_balance_loss_pulls_scores_together() -> None:
    scores = torch.tensor([0.9, 0.1, 0.1, 0.1]).repeat(1, 8, 1).requires_grad_()
    sequence_balance_loss(scores, torch.ones(1, 8, dtype=torch.bool), 1).backward()
    assert scores.grad is not None
    assert (scores.grad[..., 0] > 0).all()
    assert (scores.grad[..., 1:] < 0).all()


def test_bias_falls_by_gamma_where_overloaded_rises_where_not() -> None:
    bias_E = torch.zeros(4)
    update_bias(bias_E, torch.tensor([9, 1, 5, 5]), gamma=0.001)  # mean 5
    torch.testing.assert_close(bias_E, torch.tensor([-0.001, 0.001, 0.0, 0.0]))
    update_bias(bias_E, torch.tensor([9, 1, 5, 5]), gamma=0.0)
    torch.testing.assert_close(bias_E, torch.tensor([-0.001, 0.001, 0.0, 0.0]))


def test_bias_alone_evens_out_a_lopsided_router() -> None:
    generator = torch.Generator().manual_seed(2)
    scores_TE = torch.rand(512, 8, generator=generator) + torch.linspace(0, 0.5, 8)
    bias_E, valid_T = torch.zeros(8), torch.ones(512, dtype=torch.bool)

    def load() -> Tensor:
        return expert_load(choose_experts(scores_TE + bias_E, 2, 4, 2), valid_T, 8)

    before = load().max() / load().float().mean()
    for _ in range(300):
        update_bias(bias_E, load(), gamma=0.005)
    after = load().max() / load().float().mean()
    assert before > 1.8
    assert after < 1.1


def test_no_gradient_reaches_the_bias_and_it_is_saved() -> None:
    router = Router(small_config())
    assert "bias_E" in router.state_dict()
    assert "bias_E" not in dict(router.named_parameters())
    assert router.bias_E.dtype == torch.float32
