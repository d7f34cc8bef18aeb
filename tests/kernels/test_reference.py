"""The reference GEMMs against fp64, within the bounds that E4M3 allows."""

from __future__ import annotations

import pytest
import torch

from dsv3data.kernels.measure import (
    LARGEST_DIFF,
    LARGEST_RELATIVE_ERROR,
    calc_diff,
    relative_error,
)
from dsv3data.kernels.reference import (
    combine,
    dequantise_blocks,
    matmul_blocks,
    matmul_rows,
    quantise_blocks,
    quantise_columns,
    quantise_rows,
    rmsnorm_quantise,
    swiglu_backward,
    swiglu_quantise,
)
from dsv3data.kernels.segments import segments_of


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def within_bounds(found: torch.Tensor, exact: torch.Tensor) -> None:
    assert relative_error(found, exact) <= LARGEST_RELATIVE_ERROR
    assert relative_error(found, exact) > 0.02  # it did quantise
    assert calc_diff(found, exact) < LARGEST_DIFF


@pytest.mark.parametrize(("m", "n", "k"), [(64, 256, 512), (130, 70, 1000), (1, 300, 129)])
@pytest.mark.parametrize("power_of_two", [False, True])
def test_forward_and_input_gradient(m: int, n: int, k: int, power_of_two: bool) -> None:
    x, w, grad = normal(0, m, k), normal(1, n, k), normal(2, m, n)
    straight, turned = quantise_blocks(w[None])
    out = matmul_blocks(
        quantise_rows(x, power_of_two=power_of_two), straight, out_dtype=torch.float32
    )
    within_bounds(out, x.double() @ w.double().T)
    back = matmul_blocks(quantise_rows(grad), turned, out_dtype=torch.float32)
    within_bounds(back, grad.double() @ w.double())


@pytest.mark.parametrize(("t", "n", "k"), [(256, 64, 96), (1000, 130, 70)])
def test_weight_gradient(t: int, n: int, k: int) -> None:
    x, grad = normal(0, t, k), normal(1, t, n)
    starts = torch.tensor([0, -(-t // 128) * 128], dtype=torch.int32)
    out = matmul_rows(quantise_columns(grad), quantise_columns(x), starts)[0]
    within_bounds(out, grad.double().T @ x.double())


def test_outliers_of_a_row_or_a_token_do_not_spoil_others() -> None:
    """Why tiles are small: one row 1,000 times as large leaves the others' error as it was."""
    x, w = normal(0, 128, 512), normal(1, 128, 512)
    x[5] *= 1000
    out = matmul_blocks(quantise_rows(x), quantise_blocks(w[None])[0], out_dtype=torch.float32)
    others = torch.arange(128) != 5
    within_bounds(out[others], (x.double() @ w.double().T)[others])


def routings() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    even = torch.randint(0, 6, (150, 2), generator=generator)
    return {
        "even": even,
        "some experts without a token": even.clamp(2, 4),
        "all on one": torch.full_like(even, 3),
        "exactly whole tiles": torch.arange(256).reshape(128, 2) % 2,
    }


@pytest.mark.parametrize("name", routings())
def test_grouped_gemms(name: str) -> None:
    chosen, experts = routings()[name], 6
    segments = segments_of(chosen, experts)
    tokens, source = len(chosen), segments.token_of_slot_P
    x, grad, w = normal(0, tokens, 192), normal(1, tokens, 80), normal(2, experts, 80, 192)
    straight, turned = quantise_blocks(w)
    arguments = {"tile_experts": segments.tile_experts, "out_dtype": torch.float32}
    out = matmul_blocks(quantise_rows(x, source_P=source), straight, **arguments)
    back = matmul_blocks(quantise_rows(grad, source_P=source), turned, **arguments)
    exact = torch.einsum("td,tkfd->tkf", x.double(), w.double()[chosen])
    within_bounds(out[segments.slots_TK], exact)
    exact = torch.einsum("tf,tkfd->tkd", grad.double(), w.double()[chosen])
    within_bounds(back[segments.slots_TK], exact)
    assert not out[source < 0].any()  # padding
    found = matmul_rows(
        quantise_columns(grad, source_P=source),
        quantise_columns(x, source_P=source),
        segments.starts_E1,
    )
    visits = torch.nn.functional.one_hot(chosen, experts).sum(1).double()
    exact = torch.einsum("te,tf,td->efd", visits, grad.double(), x.double())
    within_bounds(found, exact)
    assert not found[visits.sum(0) == 0].any()


def test_not_a_number_reaches_the_result() -> None:
    x, w = normal(0, 140, 256), normal(1, 100, 256)
    x[7, 200] = float("inf")
    w[3, 5] = float("nan")
    out = matmul_blocks(quantise_rows(x), quantise_blocks(w[None])[0], out_dtype=torch.float32)
    assert out[7].isnan().all()
    # The block of w that holds it covers all 100 rows.
    assert out.isnan().all()
    clean = matmul_blocks(
        quantise_rows(x), quantise_blocks(normal(1, 1, 100, 256))[0], out_dtype=torch.float32
    )
    assert clean.isnan().any(dim=1).nonzero().flatten().tolist() == [7]


def test_blocks_of_a_stack_are_those_of_its_matrices() -> None:
    w = normal(0, 3, 200, 130) * torch.tensor([1.0, 100.0, 1e-3])[:, None, None]
    straight, turned = quantise_blocks(w)
    assert torch.equal(dequantise_blocks(straight), dequantise_blocks(turned).transpose(1, 2))
    for matrix in range(3):
        alone, _ = quantise_blocks(w[matrix : matrix + 1])
        assert torch.equal(dequantise_blocks(alone)[0], dequantise_blocks(straight)[matrix])


def test_fused_quantisation_is_the_function_and_then_quantisation() -> None:
    h, weights, gain = normal(0, 9, 400), normal(1, 9), normal(2, 400)
    act = torch.nn.functional.silu(h[:, :200]) * h[:, 200:] * weights[:, None]
    found = swiglu_quantise(h, weights)
    assert torch.equal(
        found.codes_RC.float(), quantise_rows(act, power_of_two=True).codes_RC.float()
    )
    normed = torch.nn.functional.rms_norm(h, (400,), gain, 1e-6)
    found = rmsnorm_quantise(h, gain, 1e-6)
    assert torch.equal(
        found.codes_RC.float(), quantise_rows(normed, power_of_two=True).codes_RC.float()
    )


def test_swiglu_backward_is_autograd() -> None:
    q = quantise_rows(normal(0, 20, 140), power_of_two=True)
    from dsv3data.kernels.reference import dequantise_rows

    h = dequantise_rows(q).requires_grad_()
    weights = normal(1, 20).requires_grad_()
    act = torch.nn.functional.silu(h[:, :70]) * h[:, 70:] * weights[:, None]
    grad = normal(2, 20, 70)
    act.backward(grad)
    grad_h, act_again, grad_weights = swiglu_backward(q, grad, weights.detach())
    torch.testing.assert_close(grad_h, h.grad)
    torch.testing.assert_close(act_again, act.detach())
    torch.testing.assert_close(grad_weights, weights.grad)


def test_combine_adds_the_slots_of_each_token() -> None:
    x = normal(0, 10, 5)
    slots = torch.tensor([[0, 9], [3, 3]])
    torch.testing.assert_close(combine(x, slots), torch.stack((x[0] + x[9], 2 * x[3])))
    assert combine(x.bfloat16(), slots).dtype == torch.bfloat16
