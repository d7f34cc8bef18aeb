"""Regions that are made again in the backward pass: the same numbers, less memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from dsv3data.model import recompute
from dsv3data.model.config import Precision, Remade
from dsv3data.model.recompute import forgetting_regions, remade
from dsv3data.model.transformer import Transformer
from tiny_models import random_model, small_config

ALL: tuple[Remade, ...] = ("rms_norm", "mla_up", "swiglu")
CHOICES = [(), ("rms_norm",), ("mla_up",), ("swiglu",), ALL]
IDS = torch.randint(3, 128, (2, 24), generator=torch.Generator().manual_seed(0))


def model_with(names: tuple[Remade, ...], precision: Precision = "fp32") -> Transformer:
    widths = {"d_model": 48, "d_expert": 24} if precision == "bf16" else {}
    model = random_model(small_config(mtp_depth=1, **widths))
    model.set_recompute(names)
    model.set_precision(precision)
    return model


@contextmanager
def counted_bytes(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """Bytes of each piece of memory that the graph holds, weights left out."""
    sizes: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    real = recompute.kept_for_backward

    def keep(tensor: Tensor) -> object:
        kept = real(tensor)
        if isinstance(kept, Tensor) and kept.untyped_storage().data_ptr() not in weights:
            sizes[kept.untyped_storage().data_ptr()] = kept.untyped_storage().nbytes()
        return kept

    monkeypatch.setattr(recompute, "kept_for_backward", keep)
    with torch.autograd.graph.saved_tensors_hooks(keep, recompute.given_to_backward):
        yield sizes


def loss_of(model: Transformer) -> Tensor:
    output = model(IDS)
    assert output.mtp_hidden_BTD is not None
    balance = sum(routing.balance_loss for routing in output.routings)
    main, mtp = model.logits(output.hidden_BTD), model.logits(output.mtp_hidden_BTD)
    return main.float().square().mean() + mtp.float().square().mean() + balance


@pytest.mark.parametrize(
    ("names", "precision"),
    [*((names, "fp32") for names in CHOICES[1:]), (ALL, "bf16"), (ALL, "fp8")],
    ids=str,
)
def test_losses_and_gradients_are_bitwise_those_without(
    names: tuple[Remade, ...], precision: Precision
) -> None:
    plain, again = model_with((), precision), model_with(names, precision)
    for _ in range(2):  # the second time on gradients that are there, as with micro-batches
        losses = [loss_of(model) for model in (plain, again)]
        assert torch.equal(*losses)
        for loss in losses:
            loss.backward()
    for (name, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert one.grad is not None, name
        assert torch.equal(one.grad, other.grad), name


def test_each_name_keeps_less_and_all_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}
    for names in CHOICES:
        model = model_with(names)
        with counted_bytes(model, monkeypatch) as sizes:
            loss = loss_of(model)
        kept[names] = sum(sizes.values())
        loss.backward()
        monkeypatch.undo()
    assert all(kept[names] < kept[()] for names in CHOICES[1:])
    assert all(kept[ALL] < kept[names] for names in CHOICES[:-1])
    assert kept[ALL] < 0.7 * kept[()]


def test_a_region_runs_twice_and_routers_count_once() -> None:
    model = model_with(ALL)
    calls = {"norm": 0, "router": 0}
    block = model.blocks[1]
    real_norm, real_scores = block.ffn_norm._normed, block.ffn.router.scores

    def norm(x: Tensor) -> Tensor:
        calls["norm"] += 1
        return real_norm(x)

    def scores(x: Tensor) -> Tensor:
        calls["router"] += 1
        return real_scores(x)

    block.ffn_norm._normed, block.ffn.router.scores = norm, scores
    output = model(IDS)
    loads = [routing.load_E.clone() for routing in output.routings]
    assert [int(load_E.sum()) for load_E in loads] == [48 * 3, 48 * 3, 46 * 3]
    model.logits(output.hidden_BTD).square().mean().backward()
    assert calls == {"norm": 2, "router": 1}
    assert all(map(torch.equal, loads, [routing.load_E for routing in output.routings]))


def test_views_of_an_output_are_made_again_and_freed_memory_leaves_no_mark() -> None:
    x = torch.randn(6, 4, requires_grad=True)
    weight = torch.randn(4, requires_grad=True)
    with forgetting_regions():
        made = remade(lambda t: t * weight, x, weights=(weight,))
        loss = (made[1:, ::2].T @ made[1:, 1::2]).exp().sum()
    again = x.detach().requires_grad_()
    plain = again * weight.detach()
    (plain[1:, ::2].T @ plain[1:, 1::2]).exp().sum().backward()
    del made
    fresh = torch.empty(6, 4)
    assert recompute.kept_for_backward(fresh) is fresh
    loss.backward()
    assert torch.equal(x.grad, again.grad)
    assert weight.grad is not None


def test_without_a_graph_nothing_is_marked() -> None:
    model = model_with(ALL)
    with torch.no_grad():
        states = model(IDS).hidden_BTD
    assert recompute.kept_for_backward(states) is states
