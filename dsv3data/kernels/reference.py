"""Every FP8 operation in plain torch: the slow twin of `device/`, and what runs on a CPU.

Legend as in `formats.py`; GEMMs: M rows of the left factor, N rows of the right one, K the axis
that is summed over, T tokens, P slots (rows of the expert-sorted, padded layout), F expert width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dsv3data.kernels.formats import (
    E4M3,
    E5M6,
    TILE,
    Blocks,
    Rows,
    Rows12,
    e5m6_bytes,
    e5m6_values,
    scale_of,
    to_e4m3,
    whole_tiles,
)

# Quantisation


def quantise_rows(
    x_RC: Tensor, *, power_of_two: bool = False, source_P: Tensor | None = None
) -> Rows:
    """One scale per 1×128.

    With `source_P`, row p is x's row source_P[p], or zeros where that is -1.
    """
    width = x_RC.shape[1]
    x_RC = F.pad(gather_rows(x_RC, source_P).float(), (0, whole_tiles(width) - width))
    tiles_RGt = torch.unflatten(x_RC, -1, (-1, TILE))
    scales_RG = scale_of(tiles_RGt.abs().amax(dim=-1), E4M3, power_of_two=power_of_two)
    codes_RC = _encode(tiles_RGt, scales_RG.unsqueeze(-1)).flatten(1)
    return Rows(codes_RC=codes_RC, scales_GR=scales_RG.T.contiguous(), width=width)


def quantise_columns(
    x_RC: Tensor, *, power_of_two: bool = False, source_P: Tensor | None = None
) -> Rows:
    """One scale per 128×1, and transposed: the rows of the result are the columns of x.

    What a weight gradient sums over are tokens, so tiles lie along them.
    """
    return quantise_rows(gather_rows(x_RC, source_P).T, power_of_two=power_of_two)


def pack_rows(x_RC: Tensor) -> Rows12:
    """E5M6 with one scale per 1×128, a power of two [§3.3.3]."""
    width = x_RC.shape[1]
    tiles_RGt = torch.unflatten(
        F.pad(x_RC.float(), (0, whole_tiles(width) - width)), -1, (-1, TILE)
    )
    scales_RG = scale_of(tiles_RGt.abs().amax(dim=-1), E5M6, power_of_two=True)
    scaled = torch.where(scales_RG.isnan().unsqueeze(-1), 0, tiles_RGt / scales_RG.unsqueeze(-1))
    packed_RB = e5m6_bytes(scaled.flatten(1))
    return Rows12(packed_RB=packed_RB, scales_GR=scales_RG.T.contiguous(), width=width)


def retile(q: Rows | Rows12, *, source_P: Tensor | None = None) -> Rows:
    """From 1×128 to 128×1 and transposed: the forward's operand becomes the weight gradient's."""
    return quantise_rows(gather_rows(dequantise_rows(q), source_P).T, power_of_two=True)


def quantise_blocks(w_ERC: Tensor) -> tuple[Blocks, Blocks]:
    """One scale per 128×128 of each matrix; the stack and its transposed twin, for both GEMMs."""
    height, width = w_ERC.shape[1:]
    filling = (0, whole_tiles(width) - width, 0, whole_tiles(height) - height)
    tiles_ErtC = torch.unflatten(F.pad(w_ERC.float(), filling), 1, (-1, TILE))
    tiles_Ertgt = torch.unflatten(tiles_ErtC, -1, (-1, TILE))
    scales_Erg = scale_of(tiles_Ertgt.abs().amax(dim=(2, 4)), E4M3, power_of_two=False)
    codes_ERC = _encode(tiles_Ertgt, scales_Erg[:, :, None, :, None]).flatten(3).flatten(1, 2)
    return (
        Blocks(codes_ERC=codes_ERC, scales_Erg=scales_Erg, height=height, width=width),
        Blocks(
            codes_ERC=codes_ERC.transpose(1, 2).contiguous(),
            scales_Erg=scales_Erg.transpose(1, 2).contiguous(),
            height=width,
            width=height,
        ),
    )


def dequantise_rows(q: Rows | Rows12) -> Tensor:
    """fp32 [R, width]."""
    values_RC = q.codes_RC.float() if isinstance(q, Rows) else e5m6_values(q.packed_RB)
    tiles_RGt = torch.unflatten(values_RC, -1, (-1, TILE))
    return (tiles_RGt * q.scales_GR.T.unsqueeze(-1)).flatten(1)[:, : q.width]


def dequantise_blocks(q: Blocks) -> Tensor:
    """fp32 [E, height, width]."""
    scales_ERC = q.scales_Erg.repeat_interleave(TILE, 1).repeat_interleave(TILE, 2)
    return (q.codes_ERC.float() * scales_ERC)[:, : q.height, : q.width]


def _encode(tiles: Tensor, scales: Tensor) -> Tensor:
    """Codes of tiles; 0 where the scale is NaN."""
    scaled = tiles * (1 / scales)
    return to_e4m3(torch.where(scales.isnan(), 0, scaled))


# Quantisation fused with what comes before it


def swiglu_quantise(h_PF2: Tensor, weights_P: Tensor | None = None) -> Rows:
    """silu(gate) · up, times a weight per row, then 1×128 with powers of two.

    Gate is h's first half. Weighting here, before the linear down-projection, makes the combination
    of experts a plain sum.
    """
    gate_PF, up_PF = h_PF2.float().chunk(2, dim=-1)
    act_PF = F.silu(gate_PF) * up_PF
    if weights_P is not None:
        act_PF = act_PF * weights_P.unsqueeze(-1)
    return quantise_rows(act_PF, power_of_two=True)


def rmsnorm_quantise(x_RC: Tensor, weight_C: Tensor, eps: float) -> Rows:
    """RMSNorm in fp32, then 1×128 with powers of two."""
    normed_RC = F.rms_norm(x_RC.float(), weight_C.shape, weight_C.float(), eps)
    return quantise_rows(normed_RC, power_of_two=True)


def swiglu_backward(
    h: Rows, grad_act_PF: Tensor, weights_P: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of `swiglu_quantise` from its cached input, quantisation counted as identity.

    Returns the gradient of h [P, 2F], the weighted activation made again [P, F], both in the
    gradient's dtype, and the gradient of the weights, fp32 [P].
    """
    gate_PF, up_PF = dequantise_rows(h).chunk(2, dim=-1)
    sigmoid_PF = torch.sigmoid(gate_PF)
    silu_PF = gate_PF * sigmoid_PF
    grad_PF = grad_act_PF.float() * weights_P.unsqueeze(-1)
    grad_gate_PF = grad_PF * up_PF * sigmoid_PF * (1 + gate_PF * (1 - sigmoid_PF))
    grad_h_PF2 = torch.cat((grad_gate_PF, grad_PF * silu_PF), dim=-1)
    act_PF = silu_PF * up_PF
    return (
        grad_h_PF2.to(grad_act_PF.dtype),
        (act_PF * weights_P.unsqueeze(-1)).to(grad_act_PF.dtype),
        (grad_act_PF.float() * act_PF).sum(dim=-1),
    )


# Moving rows


def gather_rows(x_RC: Tensor, source_P: Tensor | None) -> Tensor:
    """Row p is x's row source_P[p], zeros where that is -1; x itself without a source."""
    if source_P is None:
        return x_RC
    return torch.where(source_P.unsqueeze(-1) >= 0, x_RC[source_P.clamp(min=0)], 0)


def combine(x_PC: Tensor, slots_TK: Tensor) -> Tensor:
    """Row t is the sum of x's rows slots_TK[t], added in the order of K in fp32: deterministic."""
    total_TC = torch.zeros(len(slots_TK), x_PC.shape[1], device=x_PC.device)
    for slots_T in slots_TK.unbind(1):
        total_TC = total_TC + x_PC[slots_T].float()
    return total_TC.to(x_PC.dtype)


# GEMMs


def matmul_blocks(
    a: Rows, b: Blocks, *, tile_experts: Tensor | None = None, out_dtype: torch.dtype
) -> Tensor:
    """a · bᵀ, [M, b.height]: forward, and with the transposed weights the input gradient.

    Each 128 of K is summed by itself and promoted to fp32 with both scales [§3.3.2, Fig. 7b].
    With `tile_experts` (int [M / 128]), rows 128i to 128i+127 meet matrix tile_experts[i] of the
    stack; a tile of -1 gives zeros.
    """
    if tile_experts is None:
        return _matmul_one(a.codes_RC, a.scales_GR, b, 0).to(out_dtype)
    out_MN = torch.zeros(a.n_rows, b.height, device=a.codes_RC.device)
    for expert in range(len(b.codes_ERC)):
        rows = torch.nonzero((tile_experts == expert).repeat_interleave(TILE)).squeeze(1)
        # Indexing has no kernel for fp8.
        codes_RC = a.codes_RC.view(torch.uint8)[rows].view(torch.float8_e4m3fn)
        out_MN[rows] = _matmul_one(codes_RC, a.scales_GR[:, rows], b, expert)
    return out_MN.to(out_dtype)


def _matmul_one(codes_MK: Tensor, scales_GM: Tensor, b: Blocks, expert: int) -> Tensor:
    total_MN = torch.zeros(codes_MK.shape[0], b.height, device=codes_MK.device)
    scales_Ng = b.scales_Erg[expert].repeat_interleave(TILE, 0)[: b.height]
    for group in range(len(scales_GM)):
        k = slice(group * TILE, (group + 1) * TILE)
        partial_MN = codes_MK[:, k].float() @ b.codes_ERC[expert, : b.height, k].float().T
        total_MN += partial_MN * scales_GM[group].unsqueeze(1) * scales_Ng[:, group]
    return total_MN


def matmul_rows(a: Rows, b: Rows, starts_E1: Tensor) -> Tensor:
    """fp32 [E, M, N]: a · bᵀ over the columns from starts_E1[e] to starts_E1[e+1], whole tiles.

    The weight gradient: a is the gradient's transpose, b the input's, columns are tokens.
    """
    starts = (starts_E1 // TILE).tolist()
    out_EMN = torch.zeros(len(starts) - 1, a.n_rows, b.n_rows, device=a.codes_RC.device)
    for out_MN, first, last in zip(out_EMN, starts[:-1], starts[1:], strict=True):
        for group in range(first, last):
            k = slice(group * TILE, (group + 1) * TILE)
            partial_MN = a.codes_RC[:, k].float() @ b.codes_RC[:, k].float().T
            out_MN += partial_MN * a.scales_GR[group].unsqueeze(1) * b.scales_GR[group]
    return out_EMN
