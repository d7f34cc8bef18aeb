"""The kernels with the signatures of `reference.py`: sizes, buffers, grids.

Legend as in `reference.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from dsv3data.kernels.device.gemm import matmul_blocks_kernel, matmul_rows_kernel
from dsv3data.kernels.device.quantise import (
    combine_kernel,
    pack_rows_kernel,
    quantise_blocks_kernel,
    quantise_columns_kernel,
    quantise_rows_kernel,
    rmsnorm_quantise_kernel,
    swiglu_backward_kernel,
    swiglu_quantise_kernel,
)
from dsv3data.kernels.formats import TILE, Blocks, Rows, Rows12, whole_tiles

INTERPRETED = not isinstance(quantise_rows_kernel, triton.JITFunction)
ROWS, COLUMNS = 16, 64  # of one program of a quantisation kernel
FEW_ROWS = 4  # where a program holds many values of a row at once


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a GEMM kernel is cut; `per_sm` programs share one of the GPU's processors."""

    block_m: int = 128
    block_n: int = 128
    warps: int = 8
    stages: int = 3
    per_sm: int = 1
    band: int = 8
    specialised: bool = False  # one group of warps loads, the others multiply

    @property
    def name(self) -> str:
        """In records of choices and of benchmarks."""
        size = f"{self.block_m}x{self.block_n}, {self.warps} warps, {self.stages} stages"
        return f"triton {size}, {self.per_sm} per SM{', specialised' * self.specialised}"


# The tiles that dispatch times against one another; the first is the measure of the others' bits.
# Two accumulators in fp32, the fresh and the promoted one, must fit the registers, which rules out
# 128×256; two programs on a processor hide each other's promotions. Specialised warps compile for
# Hopper at this size alone, and their 384 threads fill a processor.
TILES = (
    Tile(),
    Tile(stages=4),
    Tile(block_m=64, per_sm=2),
    Tile(block_m=64, warps=4, per_sm=2),
    Tile(block_n=64, per_sm=2),
    Tile(block_m=64, warps=4, specialised=True),
)


# Quantisation


def quantise_rows(
    x_RC: Tensor, *, power_of_two: bool = False, source_P: Tensor | None = None
) -> Rows:
    x_RC = _rows_contiguous(x_RC)
    width = x_RC.shape[1]
    out = _new_rows(len(x_RC if source_P is None else source_P), width, x_RC.device)
    grid = (triton.cdiv(out.n_rows, ROWS), len(out.scales_GR))
    if out.n_rows:
        quantise_rows_kernel[grid](
            x_RC, source_P, _bytes(out.codes_RC), out.scales_GR,
            out.n_rows, width, x_RC.stride(0), out.codes_RC.stride(0),
            GATHER=source_P is not None, POWER_OF_TWO=power_of_two, INTERPRETED=INTERPRETED,
            ROWS=ROWS,
        )  # fmt: skip
    return out


def quantise_columns(
    x_RC: Tensor, *, power_of_two: bool = False, source_P: Tensor | None = None
) -> Rows:
    x_RC = _rows_contiguous(x_RC)
    return _columns(x_RC, None, 0, x_RC.shape[1], source_P, power_of_two=power_of_two)


def retile(q: Rows | Rows12, *, source_P: Tensor | None = None) -> Rows:
    x_RC, bits = (_bytes(q.codes_RC), 8) if isinstance(q, Rows) else (q.packed_RB, 12)
    return _columns(x_RC, q.scales_GR, bits, q.width, source_P, power_of_two=True)


def _columns(
    x_RC: Tensor, scales_GR: Tensor | None, bits: int, width: int, source_P: Tensor | None, *,
    power_of_two: bool,
) -> Rows:  # fmt: skip
    n_rows = len(x_RC if source_P is None else source_P)
    out = _new_rows(width, n_rows, x_RC.device)
    grid = (len(out.scales_GR), triton.cdiv(width, COLUMNS))
    if n_rows:
        quantise_columns_kernel[grid](
            x_RC, scales_GR, source_P, _bytes(out.codes_RC), out.scales_GR,
            n_rows, width, len(x_RC), x_RC.stride(0), out.codes_RC.stride(0),
            GATHER=source_P is not None, BITS=bits, POWER_OF_TWO=power_of_two,
            INTERPRETED=INTERPRETED, COLUMNS=COLUMNS,
        )  # fmt: skip
    return out


def pack_rows(x_RC: Tensor) -> Rows12:
    x_RC = _rows_contiguous(x_RC)
    n_rows, width = x_RC.shape
    wide, device = whole_tiles(width), x_RC.device
    out = Rows12(
        packed_RB=torch.empty(n_rows, wide * 3 // 2, dtype=torch.uint8, device=device),
        scales_GR=torch.empty(wide // TILE, n_rows, device=device),
        width=width,
    )
    if n_rows:
        pack_rows_kernel[(triton.cdiv(n_rows, ROWS), wide // TILE)](
            x_RC, out.packed_RB, out.scales_GR,
            n_rows, width, x_RC.stride(0), out.packed_RB.stride(0), ROWS=ROWS,
        )  # fmt: skip
    return out


def quantise_blocks(w_ERC: Tensor) -> tuple[Blocks, Blocks]:
    w_ERC = w_ERC.contiguous()
    experts, height, width = w_ERC.shape
    straight = _new_blocks(experts, height, width, w_ERC.device)
    turned = _new_blocks(experts, width, height, w_ERC.device)
    high, wide = whole_tiles(height), whole_tiles(width)
    quantise_blocks_kernel[(high // TILE, wide // TILE, experts)](
        w_ERC, _bytes(straight.codes_ERC), _bytes(turned.codes_ERC),
        straight.scales_Erg, turned.scales_Erg, height, width, high, wide,
        INTERPRETED=INTERPRETED, num_warps=8,
    )  # fmt: skip
    return straight, turned


def swiglu_quantise(h_PF2: Tensor, weights_P: Tensor | None = None) -> Rows:
    h_PF2 = _rows_contiguous(h_PF2)
    width = h_PF2.shape[1] // 2
    out = _new_rows(len(h_PF2), width, h_PF2.device)
    grid = (triton.cdiv(out.n_rows, ROWS), len(out.scales_GR))
    if out.n_rows:
        swiglu_quantise_kernel[grid](
            h_PF2, weights_P, _bytes(out.codes_RC), out.scales_GR,
            out.n_rows, width, h_PF2.stride(0), out.codes_RC.stride(0),
            WEIGHTED=weights_P is not None, INTERPRETED=INTERPRETED, ROWS=ROWS,
        )  # fmt: skip
    return out


def swiglu_backward(
    h: Rows, grad_act_PF: Tensor, weights_P: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_act_PF = _rows_contiguous(grad_act_PF)
    n_rows, width = grad_act_PF.shape
    grad_h_PF2 = grad_act_PF.new_empty(n_rows, 2 * width)
    act_PF = grad_act_PF.new_empty(n_rows, width)
    grad_weights_P = torch.empty(n_rows, device=grad_act_PF.device)
    if n_rows:
        swiglu_backward_kernel[(triton.cdiv(n_rows, FEW_ROWS),)](
            _bytes(h.codes_RC), h.scales_GR, grad_act_PF, weights_P,
            grad_h_PF2, act_PF, grad_weights_P,
            n_rows, width, h.codes_RC.stride(0), grad_act_PF.stride(0),
            INTERPRETED=INTERPRETED, ROWS=FEW_ROWS,
        )  # fmt: skip
    return grad_h_PF2, act_PF, grad_weights_P


def rmsnorm_quantise(x_RC: Tensor, weight_C: Tensor, eps: float) -> Rows:
    x_RC = _rows_contiguous(x_RC)
    width = x_RC.shape[1]
    out = _new_rows(len(x_RC), width, x_RC.device)
    if out.n_rows:
        groups = triton.next_power_of_2(len(out.scales_GR))
        rmsnorm_quantise_kernel[(out.n_rows,)](
            x_RC, weight_C, _bytes(out.codes_RC), out.scales_GR,
            out.n_rows, width, x_RC.stride(0), out.codes_RC.stride(0), eps,
            INTERPRETED=INTERPRETED, GROUPS=groups, num_warps=warps_of_row(groups),
        )  # fmt: skip
    return out


def warps_of_row(groups: int) -> int:
    """So many that a thread holds at most 32 values of a row up to 16,384 wide."""
    return min(max(groups // 8, 4), 16)


def combine(x_PC: Tensor, slots_TK: Tensor) -> Tensor:
    x_PC, (n_tokens, top_k), width = _rows_contiguous(x_PC), slots_TK.shape, x_PC.shape[1]
    out_TC = x_PC.new_empty(n_tokens, width)
    columns = min(triton.next_power_of_2(width), 512)
    grid = (triton.cdiv(n_tokens, FEW_ROWS), triton.cdiv(width, columns))
    if n_tokens:
        combine_kernel[grid](
            x_PC, slots_TK.contiguous(), out_TC, n_tokens, width, x_PC.stride(0),
            TOP_K=top_k, ROWS=FEW_ROWS, COLUMNS=columns,
        )  # fmt: skip
    return out_TC


# GEMMs


def matmul_blocks(
    a: Rows,
    b: Blocks,
    *,
    tile_experts: Tensor | None = None,
    out_dtype: torch.dtype,
    tile: Tile = TILES[0],
) -> Tensor:
    _, whole_n, k = b.codes_ERC.shape
    out_MN = torch.empty(a.n_rows, whole_n, dtype=out_dtype, device=a.codes_RC.device)
    tiles = triton.cdiv(a.n_rows, tile.block_m) * triton.cdiv(b.height, tile.block_n)
    if tiles:
        programs = min(tiles, _programs(a.codes_RC.device, tile))
        matmul_blocks_kernel[(programs,)](
            TensorDescriptor.from_tensor(a.codes_RC, [tile.block_m, TILE]),
            TensorDescriptor.from_tensor(b.codes_ERC.view(-1, k), [tile.block_n, TILE]),
            a.scales_GR, b.scales_Erg, tile_experts,
            TensorDescriptor.from_tensor(out_MN, [tile.block_m, tile.block_n]),
            a.n_rows, b.height, k // TILE, whole_n,
            GROUPED=tile_experts is not None, BLOCK_M=tile.block_m, BLOCK_N=tile.block_n,
            BAND=tile.band, SPECIALISED=tile.specialised,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return out_MN[:, : b.height]


def matmul_rows(a: Rows, b: Rows, starts_E1: Tensor, *, tile: Tile = TILES[0]) -> Tensor:
    experts = len(starts_E1) - 1
    out_EMN = torch.empty(experts, a.n_rows, whole_tiles(b.n_rows), device=a.codes_RC.device)
    if not a.codes_RC.shape[1]:
        return out_EMN.zero_()[:, :, : b.n_rows]
    tiles = triton.cdiv(a.n_rows, tile.block_m) * triton.cdiv(b.n_rows, tile.block_n) * experts
    programs = min(tiles, _programs(a.codes_RC.device, tile))
    matmul_rows_kernel[(programs,)](
        TensorDescriptor.from_tensor(a.codes_RC, [tile.block_m, TILE]),
        TensorDescriptor.from_tensor(b.codes_RC, [tile.block_n, TILE]),
        a.scales_GR, b.scales_GR, starts_E1,
        TensorDescriptor.from_tensor(out_EMN, [1, tile.block_m, tile.block_n]),
        a.n_rows, b.n_rows, experts,
        BLOCK_M=tile.block_m, BLOCK_N=tile.block_n, BAND=tile.band,
        SPECIALISED=tile.specialised, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out_EMN[:, :, : b.n_rows]


# Buffers and views


def _new_rows(n_rows: int, width: int, device: torch.device) -> Rows:
    wide = whole_tiles(width)
    return Rows(
        codes_RC=torch.empty(n_rows, wide, dtype=torch.float8_e4m3fn, device=device),
        scales_GR=torch.empty(wide // TILE, n_rows, device=device),
        width=width,
    )


def _new_blocks(experts: int, height: int, width: int, device: torch.device) -> Blocks:
    high, wide = whole_tiles(height), whole_tiles(width)
    return Blocks(
        codes_ERC=torch.empty(experts, high, wide, dtype=torch.float8_e4m3fn, device=device),
        scales_Erg=torch.empty(experts, high // TILE, wide // TILE, device=device),
        height=height,
        width=width,
    )


def _bytes(codes: Tensor) -> Tensor:
    return codes.view(torch.uint8)


def _rows_contiguous(x_RC: Tensor) -> Tensor:
    """Rows may lie apart; within a row the kernels want neighbours."""
    return x_RC if x_RC.stride(1) == 1 else x_RC.contiguous()


def _programs(device: torch.device, tile: Tile) -> int:
    return _processors(device) * tile.per_sm if device.type == "cuda" else 2


@cache
def _processors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
