"""Linear layers whose three GEMMs run in FP8 [§3.3.1, Fig. 6].

    Fprop   y  = x · wᵀ       x in 1×128, w in 128×128
    Dgrad   dx = dy · w       dy in 1×128, the same codes of w, transposed
    Wgrad   dw = dyᵀ · x      dy in 128×1, x from its FP8 cache, re-tiled to 128×1

dy is never in 128×128, which diverges [App. B.2]. Layers that read the same x (gate and up
projection, the down-projections of MLA) are one GEMM with their weights on top of one another: x is
quantised, kept and re-tiled once. What comes before, RMSNorm or SwiGLU, is fused with quantisation.
The weight gradient is fp32, the rest has the dtype of what came in. Legend: T tokens, K input
width, N output width, of all weights together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dsv3data.contracts.errors import BadInput
from dsv3data.kernels.cache import CacheFormat, WeightCodes, for_weight_gradient, keep
from dsv3data.kernels.dispatch import matmul_blocks, matmul_rows, operations
from dsv3data.kernels.formats import Blocks, Rows, whole_tiles

FLOATS = (torch.bfloat16, torch.float32)


def fp8_linear(
    x_K: Tensor, *weights: Tensor, codes: WeightCodes, keep_input: CacheFormat = "e4m3"
) -> Tensor:
    """x [..., K] → [..., N], the outputs of weights [n, K] side by side; `codes` belong to them.

    Raises:
        BadInput: a dtype other than BF16 or FP32, or widths that do not meet.
    """
    check_operands(x_K, *weights)
    y_TN = _Linear.apply(x_K.flatten(0, -2), codes.of(*weights), keep_input, *weights)  # type: ignore[no-untyped-call]
    return cast(Tensor, y_TN).view(*x_K.shape[:-1], -1)


def fp8_norm_linear(
    x_K: Tensor, gain_K: Tensor, eps: float, *weights: Tensor, codes: WeightCodes
) -> Tensor:
    """`fp8_linear` on RMSNorm(x): what is kept is x alone, the norm is made again [§3.3.3].

    Raises:
        BadInput: as `fp8_linear`.
    """
    check_operands(x_K, *weights)
    y_TN = _NormLinear.apply(x_K.flatten(0, -2), gain_K, eps, codes.of(*weights), *weights)  # type: ignore[no-untyped-call]
    return cast(Tensor, y_TN).view(*x_K.shape[:-1], -1)


def fp8_swiglu_linear(h_K2: Tensor, weight_NK: Tensor, *, codes: WeightCodes) -> Tensor:
    """A linear layer on silu(gate) · up; h [..., 2K] holds gate first, then up.

    Kept is h in E4M3; the activation is made again from it [§3.3.3].

    Raises:
        BadInput: as `fp8_linear`.
    """
    check_operands(h_K2[..., ::2], weight_NK)
    y_TN = _SwigluLinear.apply(h_K2.flatten(0, -2), codes.of(weight_NK), weight_NK)  # type: ignore[no-untyped-call]
    return cast(Tensor, y_TN).view(*h_K2.shape[:-1], -1)


def check_operands(x_K: Tensor, *weights: Tensor) -> None:
    """What the kernels would read wrongly instead of failing; weights are [n, K] or [E, n, K]."""
    for weight_NK in weights:
        if x_K.dtype not in FLOATS or weight_NK.dtype not in FLOATS:
            raise BadInput(
                f"FP8 layers take BF16 or FP32, not {x_K.dtype} with weights in {weight_NK.dtype}",
                where=f"input {tuple(x_K.shape)}, weight {tuple(weight_NK.shape)}",
                effect="nothing was computed",
                fix="convert before the layer",
            )
        if x_K.shape[-1] != weight_NK.shape[-1] or x_K.device != weight_NK.device:
            raise BadInput(
                "an FP8 layer's input and weight do not meet: widths or devices differ",
                where=f"input {tuple(x_K.shape)} on {x_K.device}, "
                f"weight {tuple(weight_NK.shape)} on {weight_NK.device}",
                effect="nothing was computed",
                fix="the last axes of both must be equal",
            )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TK: Tensor,
        codes: tuple[Blocks, Blocks],
        keep_input: CacheFormat,
        *weights: Tensor,
    ) -> Tensor:
        q = operations(x_TK.device).quantise_rows(x_TK, power_of_two=True)
        ctx.save_for_backward(*keep(x_TK, q, keep_input))
        ctx.keep_input, ctx.width = keep_input, q.width
        ctx.turned, ctx.heights = codes[1], _heights(weights)
        return matmul_blocks(q, codes[0], out_dtype=x_TK.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TN: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = input_gradient(grad_TN, ctx.turned) if ctx.needs_input_grad[0] else None
        grad_weights: Sequence[Tensor | None] = [None] * len(ctx.heights)
        if any(ctx.needs_input_grad[3:]):
            codes, scales_GR = ctx.saved_tensors
            x_KT = for_weight_gradient(codes, scales_GR, ctx.width, ctx.keep_input)
            grad_weights = torch.split(weight_gradient(grad_TN, x_KT), ctx.heights)
        return grad_x, None, None, *grad_weights


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TK: Tensor,
        gain_K: Tensor,
        eps: float,
        codes: tuple[Blocks, Blocks],
        *weights: Tensor,
    ) -> Tensor:
        q = operations(x_TK.device).rmsnorm_quantise(x_TK, gain_K, eps)
        ctx.save_for_backward(x_TK, gain_K)
        ctx.eps, ctx.turned, ctx.heights = eps, codes[1], _heights(weights)
        return matmul_blocks(q, codes[0], out_dtype=x_TK.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TN: Tensor) -> tuple[Tensor | None, ...]:
        x_TK, gain_K = ctx.saved_tensors
        grad_weights: Sequence[Tensor | None] = [None] * len(ctx.heights)
        if any(ctx.needs_input_grad[4:]):
            backend = operations(grad_TN.device)
            x_KT = backend.retile(backend.rmsnorm_quantise(x_TK, gain_K, ctx.eps))
            grad_weights = torch.split(weight_gradient(grad_TN, x_KT), ctx.heights)
        grad_normed_TK = input_gradient(grad_TN, ctx.turned)
        grad_x, grad_gain = rmsnorm_backward(x_TK, gain_K, ctx.eps, grad_normed_TK)
        return grad_x, grad_gain, None, None, *grad_weights


class _SwigluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h_TK2: Tensor, codes: tuple[Blocks, Blocks], weight_NK: Tensor) -> Tensor:
        backend = operations(h_TK2.device)
        act = backend.swiglu_quantise(h_TK2)
        h = backend.quantise_rows(h_TK2, power_of_two=True)
        ctx.save_for_backward(h.codes_RC, h.scales_GR)
        ctx.width, ctx.turned = h.width, codes[1]
        return matmul_blocks(act, codes[0], out_dtype=h_TK2.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TN: Tensor) -> tuple[Tensor | None, ...]:
        codes_RC, scales_GR = ctx.saved_tensors
        backend = operations(grad_TN.device)
        h = Rows(codes_RC=codes_RC, scales_GR=scales_GR, width=ctx.width)
        ones_T = torch.ones(len(grad_TN), device=grad_TN.device)
        grad_act_TK = input_gradient(grad_TN, ctx.turned)
        grad_h_TK2, act_TK, _ = backend.swiglu_backward(h, grad_act_TK, ones_T)
        grad_weight = None
        if ctx.needs_input_grad[2]:
            act_KT = backend.quantise_columns(act_TK, power_of_two=True)
            grad_weight = weight_gradient(grad_TN, act_KT)
        return grad_h_TK2, None, grad_weight


def _heights(weights: tuple[Tensor, ...]) -> list[int]:
    return [len(weight) for weight in weights]


def rmsnorm_backward(
    x_TK: Tensor, gain_K: Tensor, eps: float, grad_TK: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of x / rms(x) · gain, computed in fp32; sums are products with a vector."""
    x, grad = x_TK.float(), grad_TK.float()
    inverse_rms_T1 = inverse_rms(x, eps)
    both = grad * x
    along_T1 = (both @ gain_K).unsqueeze(1) / x.shape[1]
    grad_x = (grad * gain_K).mul_(inverse_rms_T1)
    grad_x.addcmul_(x, along_T1 * inverse_rms_T1**3, value=-1)
    return grad_x.to(x_TK.dtype), (inverse_rms_T1.T @ both).squeeze(0)


def inverse_rms(x_TK: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x²) + eps), fp32 [T, 1]."""
    norm_T1 = torch.linalg.vector_norm(x_TK, dim=-1, keepdim=True)
    return torch.rsqrt(norm_T1.square() / x_TK.shape[-1] + eps)


def input_gradient(grad_TN: Tensor, turned: Blocks) -> Tensor:
    """[T, K] in the gradient's dtype: dy · w, by w's transposed codes."""
    grad = operations(grad_TN.device).quantise_rows(grad_TN)
    return matmul_blocks(grad, turned, out_dtype=grad_TN.dtype)


def weight_gradient(grad_TN: Tensor, x_KT: Rows) -> Tensor:
    """fp32 [N, K]: dyᵀ · x, summed over tokens."""
    grad_NT = operations(grad_TN.device).quantise_columns(grad_TN)
    starts = _one_segment(whole_tiles(len(grad_TN)), grad_TN.device)
    return matmul_rows(grad_NT, x_KT, starts)[0]


@cache
def _one_segment(n_slots: int, device: torch.device) -> Tensor:
    return torch.tensor([0, n_slots], dtype=torch.int32, device=device)
