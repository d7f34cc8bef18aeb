"""Initial weights: the published distribution, one stream a parameter."""

from __future__ import annotations

import pytest
import torch

from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from tiny_models import small_config


def fresh(seed: int = 0, **changes: float) -> Transformer:
    model = Transformer(small_config(**({"mtp_depth": 1} | changes)))
    init_weights(model, seed)
    return model


def test_matrices_are_normal_with_init_std_and_norms_are_one() -> None:
    model = fresh(init_std=0.006)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == 1).all(), name
        else:
            assert float(parameter.detach().std()) == pytest.approx(0.006, rel=0.1), name
            assert abs(float(parameter.detach().mean())) < 0.0006, name
    assert all((router.bias_E == 0).all() for router in model.routers())


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    first, again, other = fresh(1), fresh(1), fresh(2)
    for (name, weight), same, different in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, same)
        assert weight.dim() == 1 or not torch.equal(weight, different), name


def test_another_layer_changes_no_weight_of_the_others() -> None:
    small, large = fresh(n_layers=3), fresh(n_layers=4)
    weights = dict(large.named_parameters())
    for name, weight in small.named_parameters():
        assert torch.equal(weight, weights[name]), name


def test_no_two_parameters_share_their_numbers() -> None:
    firsts = [p.flatten()[0].item() for p in fresh().parameters() if p.dim() > 1]
    assert len(set(firsts)) == len(firsts)
