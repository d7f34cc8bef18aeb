"""The layers that a model calls: gradients, what is kept in memory, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dsv3data.contracts.errors import BadInput, EnvironmentFault
from dsv3data.kernels import dispatch
from dsv3data.kernels.cache import WeightCodes
from dsv3data.kernels.experts import fp8_experts, sorted_experts
from dsv3data.kernels.linear import fp8_linear, fp8_norm_linear, fp8_swiglu_linear
from dsv3data.kernels.measure import relative_error
from dsv3data.kernels.reference import dequantise_rows, pack_rows, quantise_rows
from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from kept_bytes import linear_activation_bytes
from tiny_models import small_config


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(output: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return [output.detach(), *torch.autograd.grad(output, inputs, normal(9, *output.shape))]


def linear_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return normal(0, 3, 70, 200).requires_grad_(), normal(1, 130, 200).requires_grad_()


@pytest.mark.parametrize("keep_input", ["e4m3", "e5m6"])
def test_a_linear_layer_and_its_gradients(keep_input: Any) -> None:
    x, w = linear_inputs()
    found = gradients(fp8_linear(x, w, codes=WeightCodes(), keep_input=keep_input), x, w)
    for one, exact in zip(found, gradients(F.linear(x, w), x, w), strict=True):
        assert one.shape == exact.shape
        assert 0.02 < relative_error(one, exact) < 0.05


def test_a_norm_and_a_linear_layer_in_one() -> None:
    x, w = linear_inputs()
    gain = normal(2, 200).requires_grad_()
    found = gradients(fp8_norm_linear(x, gain, 1e-6, w, codes=WeightCodes()), x, gain, w)
    exact = gradients(F.linear(F.rms_norm(x, (200,), gain, 1e-6), w), x, gain, w)
    for one, other in zip(found, exact, strict=True):
        assert one.shape == other.shape
        assert 0.02 < relative_error(one, other) < 0.05
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        fp8_norm_linear(x, gain, 1e-6, w, codes=WeightCodes())
    assert sorted(t.numel() for t in saved) == [200, x.numel()]


def test_layers_that_read_the_same_are_one_gemm() -> None:
    x, w = linear_inputs()
    one = normal(3, 128, 200).requires_grad_()
    found = gradients(fp8_linear(x, one, w, codes=WeightCodes()), x, one, w)
    exact = gradients(torch.cat((F.linear(x, one), F.linear(x, w)), -1), x, one, w)
    for mine, other in zip(found, exact, strict=True):
        assert mine.shape == other.shape
        assert 0.02 < relative_error(mine, other) < 0.05
    # Whole tiles of each: the same codes, so the same bits as alone.
    assert torch.equal(found[0][..., :128], fp8_linear(x, one, codes=WeightCodes()))
    assert torch.equal(found[0][..., 128:], fp8_linear(x, w, codes=WeightCodes()))


@pytest.mark.parametrize("width", [128, 70])
def test_a_swiglu_and_a_linear_layer_in_one(width: int) -> None:
    h, w = normal(0, 3, 50, 2 * width).requires_grad_(), normal(1, 130, width).requires_grad_()
    found = gradients(fp8_swiglu_linear(h, w, codes=WeightCodes()), h, w)
    gate, up = h.chunk(2, dim=-1)
    exact = gradients(F.linear(F.silu(gate) * up, w), h, w)
    for mine, other in zip(found, exact, strict=True):
        assert mine.shape == other.shape
        assert 0.02 < relative_error(mine, other) < 0.06
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        fp8_swiglu_linear(h, w, codes=WeightCodes())
    assert [t.dtype for t in saved] == [torch.float8_e4m3fn, torch.float32]  # codes and scales


def test_twelve_bits_keep_an_eighth_of_the_error() -> None:
    x = normal(0, 70, 200)
    error = relative_error(dequantise_rows(pack_rows(x)), x)
    assert 0 < error < relative_error(dequantise_rows(quantise_rows(x, power_of_two=True)), x) / 7


def test_what_a_linear_layer_keeps() -> None:
    x, w = normal(0, 256, 512).requires_grad_(), normal(1, 128, 512).requires_grad_()
    sizes = {}
    for keep_input in ("e4m3", "e5m6"):
        saved: list[torch.Tensor] = []
        pack = torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.append(t) or t, lambda t: t
        )
        with pack:
            fp8_linear(x, w, codes=WeightCodes(), keep_input=keep_input)
        sizes[keep_input] = sum(t.nbytes for t in saved)
    scales = 4 * x.numel() // 128
    assert sizes == {"e4m3": x.numel() + scales, "e5m6": x.numel() * 3 // 2 + scales}
    assert sizes["e4m3"] < 0.6 * 2 * x.numel()  # of BF16


def test_linear_layers_keep_little_of_what_bf16_keeps() -> None:
    """One dense and one MoE block, about a sixteenth of V3's widths; 60 % is the goal."""
    widths = {"d_model": 448, "d_ff_dense": 1152, "q_lora_rank": 96, "kv_lora_rank": 32}
    heads = {"n_heads": 8, "d_qk_nope": 112, "d_qk_rope": 4, "d_v": 112}
    experts = {"d_expert": 128, "n_routed_experts": 16, "n_shared_experts": 1, "top_k": 8}
    model = Transformer(small_config(n_layers=2, **widths, **heads, **experts))
    init_weights(model, 0)
    kept = {p: linear_activation_bytes(model, p, n_tokens=500) for p in ("bf16", "fp8")}
    assert round(kept["fp8"] / kept["bf16"], 2) == 0.38


def test_activations_in_bf16_leave_weight_gradients_in_fp32() -> None:
    x, w = linear_inputs()
    y = fp8_linear(x.bfloat16(), w, codes=WeightCodes())
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert w.grad is not None
    assert w.grad.dtype == torch.float32


def test_codes_follow_their_weight() -> None:
    w, codes = normal(0, 130, 70), WeightCodes()
    first = codes.of(w)
    assert codes.of(w) is first
    w.mul_(2)
    second = codes.of(w)
    assert second is not first
    assert torch.equal(second[0].scales_Erg, 2 * first[0].scales_Erg)
    assert codes.of(w.clone()) is not second


def test_the_same_inputs_give_the_same_bits() -> None:
    x, w = linear_inputs()
    runs = [gradients(fp8_linear(x, w, codes=WeightCodes()), x, w) for _ in range(2)]
    assert all(map(torch.equal, *runs))


def test_not_a_number_reaches_outputs_and_gradients() -> None:
    x, w = linear_inputs()
    with torch.no_grad():
        x[1, 3, 7] = float("nan")
    y, grad_x, grad_w = gradients(fp8_linear(x, w, codes=WeightCodes()), x, w)
    assert y.isnan().any(dim=-1).nonzero().tolist() == [[1, 3]]
    assert not grad_x.isnan().any()
    assert grad_w.isnan().any()


def expert_inputs(routing: str) -> tuple[torch.Tensor, ...]:
    tokens, experts, top_k, d, f = 90, 6, 2, 72, 40
    chosen = torch.randint(0, experts, (tokens, top_k), generator=torch.Generator().manual_seed(4))
    chosen = {
        "even": chosen,
        "empty experts": chosen.clamp(2, 4),
        "all on one": torch.full_like(chosen, 5),
    }[routing]
    tensors = (
        normal(0, tokens, d),
        normal(1, tokens, top_k).sigmoid(),
        normal(2, experts, 2 * f, d) / d**0.5,
        normal(3, experts, d, f) / f**0.5,
    )
    return chosen, *(tensor.requires_grad_() for tensor in tensors)


def exact_experts(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, up: torch.Tensor,
    down: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    gate_TKF, up_TKF = torch.einsum("td,tkfd->tkf", x, up[chosen]).chunk(2, dim=-1)
    out_TKD = torch.einsum("tkf,tkdf->tkd", F.silu(gate_TKF) * up_TKF, down[chosen])
    return (out_TKD * weights.unsqueeze(-1)).sum(1)


@pytest.mark.parametrize("routing", ["even", "empty experts", "all on one"])
@pytest.mark.parametrize(("kind", "bound"), [("fp8", 0.09), ("bf16", 0.02)])
def test_experts_and_their_gradients(kind: str, bound: float, routing: str) -> None:
    chosen, x, weights, up, down = expert_inputs(routing)
    if kind == "fp8":
        out = fp8_experts(x, chosen, weights, up, down, (WeightCodes(), WeightCodes()))
    else:
        out = sorted_experts(x.bfloat16(), chosen, weights, up, down).float()
    found = gradients(out, x, weights, up, down)
    exact = gradients(exact_experts(x, chosen, weights, up, down), x, weights, up, down)
    for one, other in zip(found, exact, strict=True):
        assert one.shape == other.shape
        assert 1e-4 < relative_error(one, other) < bound
    for expert in set(range(6)) - set(chosen.flatten().tolist()):
        assert not found[3][expert].any()
        assert not found[4][expert].any()


def test_not_a_number_stays_with_its_token_and_its_experts() -> None:
    chosen, x, weights, up, down = expert_inputs("even")
    with torch.no_grad():
        x[17, 3] = float("nan")
    out = fp8_experts(x, chosen, weights, up, down, (WeightCodes(), WeightCodes()))
    _, grad_x, _, grad_up, _ = gradients(out, x, weights, up, down)
    assert out.isnan().any(dim=1).nonzero().flatten().tolist() == [17]
    assert grad_x.isnan().any(dim=1).nonzero().flatten().tolist() == [17]
    spoiled = grad_up.flatten(1).isnan().any(dim=1).nonzero().flatten().tolist()
    assert spoiled == sorted(set(chosen[17].tolist()))


def test_experts_keep_their_inputs_once_a_token() -> None:
    chosen, x, weights, up, down = expert_inputs("even")
    saved: list[torch.Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t)
    with hooks:
        fp8_experts(x, chosen, weights, up, down, (WeightCodes(), WeightCodes()))
    codes = [t.shape[0] for t in saved if t.dtype == torch.float8_e4m3fn]
    slots = (chosen.numel() + 6 * 127) // 128 * 128
    assert sorted(codes) == [len(x), slots]


def test_wrong_inputs_are_refused() -> None:
    x, w = linear_inputs()
    with pytest.raises(BadInput, match="FP8 layers take BF16 or FP32, not"):
        fp8_linear(x.double(), w, codes=WeightCodes())
    with pytest.raises(BadInput, match="an FP8 layer's input and weight do not meet"):
        fp8_linear(x[..., :100], w, codes=WeightCodes())
    with pytest.raises(BadInput, match="an FP8 layer's input and weight do not meet"):
        fp8_swiglu_linear(normal(0, 3, 401), w, codes=WeightCodes())
    chosen, x, weights, up, down = expert_inputs("even")
    codes = (WeightCodes(), WeightCodes())
    with pytest.raises(BadInput, match="the experts' matrices do not meet"):
        fp8_experts(x, chosen, weights, up, down.transpose(1, 2), codes)
    with pytest.raises(BadInput, match="FP8 layers take BF16 or FP32, not"):
        fp8_experts(x.half(), chosen, weights, up, down, codes)
    with pytest.raises(BadInput, match="experts in BF16 need widths that 8 divides, not"):
        sorted_experts(x[:, :70].bfloat16(), chosen, weights, up[:, :, :70], down[:, :70])


def test_an_unsuitable_gpu_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    dispatch.require_hopper.cache_clear()
    with pytest.raises(EnvironmentFault, match=r"FP8 training needs a Hopper GPU \(sm_90\)") as e:
        dispatch.operations(device)
    assert e.value.fix == "train in BF16 with --set precision=bf16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(dispatch, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r"the FP8 kernels need torch 2\.11 or newer") as e:
        dispatch.backend_of(device)
    assert "torch not installed" in e.value.where
    monkeypatch.setattr(dispatch, "find_spec", lambda _: "there")
    monkeypatch.setattr(dispatch, "_version", {"torch": "2.11.0+cu130", "triton": "3.5.1"}.get)
    with pytest.raises(EnvironmentFault, match=r"the FP8 kernels need triton 3\.6 or newer") as e:
        dispatch.backend_of(device)
    assert "precision=bf16" in e.value.fix
    monkeypatch.setattr(dispatch, "_version", {"torch": "2.13.0", "triton": "3.10.0"}.get)
    assert dispatch.backend_of(device).startswith("FP8 on Hopper's tensor cores")
    dispatch.require_hopper.cache_clear()
    assert dispatch.backend_of(torch.device("cpu")).startswith("FP8 emulated in fp32")
