"""Routed experts over a grouped layout: FP8 in all GEMMs, and the twin in BF16 or FP32 [§3.3].

The gate's weight multiplies the activation before the down-projection, so that the experts'
outputs are combined by a plain sum and none of them is kept for the backward pass. Kept are, in
FP8: the layer's input, once per token and not once per visit, and the SwiGLU's input, from which
its output is made again [§3.3.3].

Legend: T tokens, K visits of a token, P slots, D model width, F expert width, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dsv3data.contracts.errors import BadInput
from dsv3data.kernels.cache import WeightCodes
from dsv3data.kernels.dispatch import matmul_blocks, matmul_rows, operations
from dsv3data.kernels.formats import Blocks, Rows
from dsv3data.kernels.linear import check_operands
from dsv3data.kernels.reference import gather_rows
from dsv3data.kernels.segments import Segments, segments_of


def fp8_experts(
    x_TD: Tensor,
    experts_TK: Tensor,
    weights_TK: Tensor,
    gate_up_EFD: Tensor,
    down_EDF: Tensor,
    codes: tuple[WeightCodes, WeightCodes],
) -> Tensor:
    """Weighted sum of each token's SwiGLU experts, [T, D]; gate and up share a matrix, gate first.

    No token is dropped and the host waits for no count. Gradients of the weights are fp32.

    Raises:
        BadInput: a dtype other than BF16 or FP32, or matrices that do not meet.
    """
    check_operands(x_TD, gate_up_EFD)
    n_experts, width_2, d_model = gate_up_EFD.shape
    if down_EDF.shape != (n_experts, d_model, width_2 // 2) or down_EDF.dtype != gate_up_EFD.dtype:
        raise BadInput(
            "the experts' matrices do not meet",
            where=f"gate and up {tuple(gate_up_EFD.shape)} in {gate_up_EFD.dtype}, "
            f"down {tuple(down_EDF.shape)} in {down_EDF.dtype}",
            effect="nothing was computed",
            fix="down is [experts, model width, expert width], gate and up [experts, twice the "
            "expert width, model width], of one dtype",
        )
    segments = segments_of(experts_TK, len(gate_up_EFD))
    y_TD = _Experts.apply(  # type: ignore[no-untyped-call]
        x_TD,
        weights_TK,
        gate_up_EFD,
        down_EDF,
        codes[0].of(gate_up_EFD),
        codes[1].of(down_EDF),
        segments,
    )
    return cast(Tensor, y_TD)


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        weights_TK: Tensor,
        gate_up_EFD: Tensor,
        down_EDF: Tensor,
        gate_up: tuple[Blocks, Blocks],
        down: tuple[Blocks, Blocks],
        segments: Segments,
    ) -> Tensor:
        backend = operations(x_TD.device)
        experts, tokens = segments.tile_experts, segments.token_of_slot_P
        weights_P = _of_slots(weights_TK.float(), segments)
        x_PD = backend.quantise_rows(x_TD, power_of_two=True, source_P=tokens)
        h_PF2 = matmul_blocks(x_PD, gate_up[0], tile_experts=experts, out_dtype=x_TD.dtype)
        act_PF = backend.swiglu_quantise(h_PF2, weights_P)
        out_PD = matmul_blocks(act_PF, down[0], tile_experts=experts, out_dtype=x_TD.dtype)
        x = backend.quantise_rows(x_TD, power_of_two=True)
        h = backend.quantise_rows(h_PF2, power_of_two=True)
        ctx.save_for_backward(x.codes_RC, x.scales_GR, h.codes_RC, h.scales_GR, weights_P)
        ctx.widths, ctx.segments = (x.width, h.width), segments
        ctx.gate_up, ctx.down = gate_up[1], down[1]
        return backend.combine(out_PD, segments.slots_TK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        x_codes, x_scales, h_codes, h_scales, weights_P = ctx.saved_tensors
        x = Rows(codes_RC=x_codes, scales_GR=x_scales, width=ctx.widths[0])
        h = Rows(codes_RC=h_codes, scales_GR=h_scales, width=ctx.widths[1])
        backend, segments, dtype = operations(grad_TD.device), ctx.segments, grad_TD.dtype
        experts, tokens = segments.tile_experts, segments.token_of_slot_P
        # Down-projection: the gradient of a sum goes to every visit of a token.
        grad_PD = backend.quantise_rows(grad_TD, source_P=tokens)
        grad_act_PF = matmul_blocks(grad_PD, ctx.down, tile_experts=experts, out_dtype=dtype)
        grad_h_PF2, act_PF, grad_weights_P = backend.swiglu_backward(h, grad_act_PF, weights_P)
        grad_down_EDF = matmul_rows(
            backend.quantise_columns(grad_TD, source_P=tokens),
            backend.quantise_columns(act_PF, power_of_two=True),
            segments.starts_E1,
        )
        # Gate and up projection.
        grad_h = backend.quantise_rows(grad_h_PF2)
        grad_x_PD = matmul_blocks(grad_h, ctx.gate_up, tile_experts=experts, out_dtype=dtype)
        grad_gate_up_EFD = matmul_rows(
            backend.quantise_columns(grad_h_PF2),
            backend.retile(x, source_P=tokens),
            segments.starts_E1,
        )
        return (
            backend.combine(grad_x_PD, segments.slots_TK),
            grad_weights_P[segments.slots_TK],
            grad_gate_up_EFD,
            grad_down_EDF,
            None,
            None,
            None,
        )


def weighted_swiglu(h_PF2: Tensor, weights_P1: Tensor) -> Tensor:
    """silu(gate) · up · weight, the gate being h's first half."""
    gate_PF, up_PF = h_PF2.chunk(2, dim=-1)
    return F.silu(gate_PF) * up_PF * weights_P1.to(h_PF2.dtype)


def sorted_experts(
    x_TD: Tensor,
    experts_TK: Tensor,
    weights_TK: Tensor,
    gate_up_EFD: Tensor,
    down_EDF: Tensor,
    *,
    gated: Callable[[Tensor, Tensor], Tensor] = weighted_swiglu,
) -> Tensor:
    """The same layer in x's dtype: no tiles, hence no padding.

    In BF16 by `F.grouped_mm`; else expert by expert, which on a CPU in fp32 is faster (13 against
    17 ms for 8 small experts).

    Raises:
        BadInput: BF16 and a width that is no multiple of 8, which `F.grouped_mm` cannot read.
    """
    segments = segments_of(experts_TK, len(gate_up_EFD), tile=1)
    multiply = _by_library if x_TD.dtype == torch.bfloat16 else _expert_by_expert
    weights_P1 = _of_slots(weights_TK, segments).unsqueeze(-1)
    x_PD = cast(Tensor, _Gather.apply(x_TD, segments))  # type: ignore[no-untyped-call]
    act_PF = gated(multiply(x_PD, gate_up_EFD, segments), weights_P1)
    out_PD = multiply(act_PF, down_EDF, segments)
    return cast(Tensor, _Combine.apply(out_PD, segments))  # type: ignore[no-untyped-call]


def _by_library(x_PK: Tensor, weight_ENK: Tensor, segments: Segments) -> Tensor:
    if weight_ENK.shape[1] % 8 or weight_ENK.shape[2] % 8:
        raise BadInput(
            f"experts in BF16 need widths that 8 divides, not {weight_ENK.shape[1]} and "
            f"{weight_ENK.shape[2]}",
            where="model.d_model and model.d_expert",
            effect="nothing was computed",
            fix="choose other widths, or fp32 (train --set precision=fp32, generate --dtype fp32)",
        )
    weight_EKN = weight_ENK.to(x_PK.dtype).transpose(1, 2)
    return F.grouped_mm(x_PK, weight_EKN, offs=segments.starts_E1[1:])


def _expert_by_expert(x_PK: Tensor, weight_ENK: Tensor, segments: Segments) -> Tensor:
    starts = segments.starts_E1.tolist()
    return cast(Tensor, _Products.apply(x_PK, weight_ENK, starts))  # type: ignore[no-untyped-call]


class _Products(torch.autograd.Function):
    """x · weightᵀ of each segment with its expert's matrix, written where it belongs."""

    @staticmethod
    def forward(ctx: Any, x_PK: Tensor, weight_ENK: Tensor, starts: list[int]) -> Tensor:
        ctx.save_for_backward(x_PK, weight_ENK)
        ctx.starts = starts
        y_PN = x_PK.new_empty(len(x_PK), weight_ENK.shape[1])
        for expert, slots in enumerate(_slices(starts)):
            torch.mm(x_PK[slots], weight_ENK[expert].T, out=y_PN[slots])
        return y_PN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_PN: Tensor) -> tuple[Tensor, Tensor, None]:
        x_PK, weight_ENK = ctx.saved_tensors
        grad_x_PK, grad_weight_ENK = torch.empty_like(x_PK), torch.empty_like(weight_ENK)
        for expert, slots in enumerate(_slices(ctx.starts)):
            torch.mm(grad_PN[slots], weight_ENK[expert], out=grad_x_PK[slots])
            torch.mm(grad_PN[slots].T, x_PK[slots], out=grad_weight_ENK[expert])
        return grad_x_PK, grad_weight_ENK, None


def _slices(starts: list[int]) -> Iterator[slice]:
    return (slice(*bounds) for bounds in pairwise(starts))


def _of_slots(weights_TK: Tensor, segments: Segments) -> Tensor:
    """The weight of each slot's visit [P], 0 in padding."""
    return gather_rows(weights_TK.flatten().unsqueeze(-1), segments.visit_of_slot_P).squeeze(-1)


class _Gather(torch.autograd.Function):
    """Token rows to slots without padding; the backward pass adds in a fixed order, where indexing
    would not."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return x_TD.index_select(0, segments.token_of_slot_P)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_PD: Tensor) -> tuple[Tensor, None]:
        return _summed(grad_PD, ctx.segments), None


class _Combine(torch.autograd.Function):
    """Each token's sum over its slots; the reverse of `_Gather` in both passes."""

    @staticmethod
    def forward(ctx: Any, x_PD: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return _summed(x_PD, segments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, None]:
        return grad_TD.index_select(0, ctx.segments.token_of_slot_P), None


def _summed(x_PD: Tensor, segments: Segments) -> Tensor:
    wide = torch.promote_types(x_PD.dtype, torch.float32)
    visits_VD = x_PD.index_select(0, segments.slots_TK.flatten())
    visits_TKD = visits_VD.unflatten(0, segments.slots_TK.shape)  # type: ignore[no-untyped-call]
    summed_TD: Tensor = visits_TKD.sum(dim=1, dtype=wide)
    return summed_TD.to(x_PD.dtype)
