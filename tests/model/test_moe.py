"""The sorted fast path against one token and one expert at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dsv3data.model.moe import MoE, RoutedExperts, experts_per_token
from dsv3data.model.router import Routing
from tiny_models import small_config


def double_experts() -> RoutedExperts:
    experts = RoutedExperts(small_config()).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_(generator=generator)
    return experts


def routing_to(experts_TK: Tensor) -> Routing:
    generator = torch.Generator().manual_seed(1)
    return Routing(
        valid_BS=torch.ones(1, len(experts_TK), dtype=torch.bool),
        experts_TK=experts_TK,
        weights_TK=torch.rand(
            experts_TK.shape, generator=generator, dtype=torch.float64
        ).requires_grad_(),
        load_E=torch.zeros(16, dtype=torch.int64),
        balance_loss=torch.zeros(()),
    )


def random_choice(n_tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(n_tokens)
    return torch.stack([torch.randperm(16, generator=generator)[:3] for _ in range(n_tokens)])


CHOICES = {
    "random": random_choice(37),
    "one token": random_choice(1),
    "all to the same three": torch.tensor([[4, 0, 15]]).repeat(37, 1),
}


@pytest.mark.parametrize("experts_TK", CHOICES.values(), ids=CHOICES.keys())
def test_fast_path_equals_the_slow_twin_in_values_and_gradients(experts_TK: Tensor) -> None:
    experts = double_experts()
    generator = torch.Generator().manual_seed(2)
    shape = (len(experts_TK), 48)
    pull_TD = torch.randn(shape, generator=generator, dtype=torch.float64)
    results = []
    for run in (experts.forward, lambda x, r: experts_per_token(experts, x, r)):
        x_TD = torch.randn(
            shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
        ).requires_grad_()
        routing = routing_to(experts_TK)
        y_TD = run(x_TD, routing)
        experts.zero_grad()
        (y_TD * pull_TD).sum().backward()
        gradients = [parameter.grad.clone() for parameter in experts.parameters()]
        results.append([y_TD, x_TD.grad, routing.weights_TK.grad, *gradients])
    for fast, slow in zip(*results, strict=True):
        assert fast.abs().max() > 0
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


def test_no_token_is_dropped_when_one_expert_gets_everything() -> None:
    experts = double_experts()
    x_TD = torch.randn(200, 48, dtype=torch.float64)
    y_TD = experts(x_TD, routing_to(torch.tensor([[7, 8, 9]]).repeat(200, 1)))
    assert (y_TD.abs().sum(dim=-1) > 0).all()


def test_unvisited_experts_get_a_zero_gradient_and_no_crash() -> None:
    experts = double_experts()
    experts(
        torch.randn(5, 48, dtype=torch.float64), routing_to(torch.full((5, 3), 2))
    ).sum().backward()
    gradient = experts.down_EDF.grad
    assert gradient is not None
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3, 15]].abs().sum() == 0


def test_the_layer_is_shared_plus_routed() -> None:
    layer = MoE(small_config()).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x_BSD = torch.randn(2, 5, 48, dtype=torch.float64)
    y_BSD, routing = layer(x_BSD, torch.ones(2, 5, dtype=torch.bool))
    routed_TD = experts_per_token(layer.routed, x_BSD.flatten(0, 1), routing)
    torch.testing.assert_close(y_BSD, layer.shared(x_BSD) + routed_TD.view_as(x_BSD))


def test_a_gate_weight_is_2_5_in_sum() -> None:
    layer = MoE(small_config())
    torch.nn.init.normal_(layer.router.weight_ED)
    _, routing = layer(torch.zeros(1, 4, 48), torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(routing.weights_TK.sum(-1), torch.full((4,), 2.5))
