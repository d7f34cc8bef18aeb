"""Our AdamW against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dsv3data.model.transformer import Transformer
from dsv3data.training.config import OptimizerConfig
from dsv3data.training.optimizer import AdamW
from tiny_models import random_model, small_config

CONFIG = OptimizerConfig(weight_decay=0.3)


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"matrix": (5, 3), "stack": (2, 3, 4), "norm": (6,), "untouched": (4, 4)}
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in shapes.items()
    }


def set_gradients(tensors: dict[str, nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in tensors.items():
        if name != "untouched":
            tensor.grad = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)


def test_twenty_steps_equal_torch() -> None:
    ours, theirs = parameters(), parameters()
    optimizer = AdamW(ours.items(), CONFIG)
    decaying = [tensor for tensor in theirs.values() if tensor.dim() >= 2]
    reference = torch.optim.AdamW(
        [{"params": decaying}, {"params": [theirs["norm"]], "weight_decay": 0.0}],
        betas=(CONFIG.beta1, CONFIG.beta2),
        eps=CONFIG.eps,
        weight_decay=CONFIG.weight_decay,
    )
    before = parameters()
    for step in range(20):
        lr = 0.1 / (step + 1)
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizer.step(lr)
        for group in reference.param_groups:
            group["lr"] = lr
        reference.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-12, atol=1e-12)
    assert torch.equal(ours["untouched"], before["untouched"])
    assert (ours["norm"] - before["norm"]).abs().min() > 1e-3


def test_one_pass_equals_the_algorithm_as_it_is_written() -> None:
    fast, slow = parameters(), parameters()
    one, other = AdamW(fast.items(), CONFIG), AdamW(slow.items(), CONFIG)
    for step in range(5):
        set_gradients(fast, step)
        set_gradients(slow, step)
        versions = [tensor._version for tensor in fast.values() if tensor.grad is not None]
        one.step(0.1)
        other.n_steps += 1
        with torch.no_grad():
            for name, tensor in slow.items():
                if tensor.grad is not None:
                    other._update(name, 0.1)
        # Whoever keeps something made of a weight sees that it has changed.
        later = [tensor._version for tensor in fast.values() if tensor.grad is not None]
        assert all(new > old for new, old in zip(later, versions, strict=True))
    for name, tensor in fast.items():
        torch.testing.assert_close(tensor, slow[name], rtol=1e-12, atol=1e-12)


def test_state_restores_bitwise() -> None:
    first, second = parameters(), parameters()
    one, other = AdamW(first.items(), CONFIG), AdamW(second.items(), CONFIG)
    set_gradients(first, 0)
    one.step(0.1)
    other.restore({name: tensor.clone() for name, tensor in one.state().items()})
    with torch.no_grad():
        for name in second:
            second[name].copy_(first[name])
    for tensors, optimizer in ((first, one), (second, other)):
        set_gradients(tensors, 1)
        optimizer.step(0.1)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_norms_do_not_decay_and_biases_are_not_its_business() -> None:
    model: Transformer = random_model(small_config(mtp_depth=1))
    optimizer = AdamW(model.named_parameters(), CONFIG)
    for name, parameter in optimizer.parameters.items():
        assert optimizer.decay_of(parameter) == (0.0 if "norm" in name else 0.3), name
    assert not any("bias" in name for name in optimizer.parameters)


def test_zero_grad_forgets_gradients() -> None:
    tensors = parameters()
    set_gradients(tensors, 0)
    AdamW(tensors.items(), CONFIG).zero_grad()
    assert all(tensor.grad is None for tensor in tensors.values())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_first_step_has_the_size_of_the_learning_rate(scale: float) -> None:
    weight = nn.Parameter(torch.zeros(4, 4))
    weight.grad = torch.full((4, 4), scale)
    AdamW([("weight", weight)], CONFIG).step(0.01)
    torch.testing.assert_close(weight.data, torch.full((4, 4), -0.01), rtol=0.02, atol=0.0)


def test_moments_in_bf16_stay_near_those_in_fp32() -> None:
    moved = {}
    for kind in ("fp32", "bf16"):
        parameter = nn.Parameter(torch.ones(64, 8))
        optimizer = AdamW([("w", parameter)], OptimizerConfig(lr=0.01, moments=kind))
        generator = torch.Generator().manual_seed(5)
        for _ in range(50):
            parameter.grad = 1 + torch.randn(64, 8, generator=generator)
            optimizer.step(0.01)
        moved[kind] = parameter.detach() - 1
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
        assert optimizer.second_moments["w"].dtype == kinds[kind]
    error = (moved["bf16"] - moved["fp32"]).norm() / moved["fp32"].norm()
    assert 0 < error < 0.01
