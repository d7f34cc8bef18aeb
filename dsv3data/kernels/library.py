"""cuBLAS's blockwise FP8 GEMM, as torch ≥ 2.11 offers it. Same operands as our kernels.

Legend as in `reference.py`.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.functional import ScalingType

from dsv3data.kernels.formats import TILE, Blocks, Rows


def can_multiply(a: Rows, b: Blocks, out_dtype: torch.dtype) -> bool:
    """Whole tiles, BF16 out, and a cuBLAS that has it (12.9, on Hopper)."""
    fits = a.n_rows > 0 and a.n_rows % TILE == 0 and b.height % TILE == 0
    return fits and out_dtype == torch.bfloat16 and _has_blockwise(a.codes_RC.device)


def matmul_blocks(a: Rows, b: Blocks, *, out_dtype: torch.dtype) -> Tensor:
    """a · bᵀ for a stack of one."""
    scales_rg = b.scales_Erg[0]
    # cuBLAS wants the tiles along K in multiples of four.
    padded = F.pad(scales_rg, (0, -scales_rg.shape[1] % 4))
    return F.scaled_mm(
        a.codes_RC,
        b.codes_ERC[0].T,
        a.scales_GR.T,
        ScalingType.BlockWise1x128,
        padded.T,
        ScalingType.BlockWise128x128,
        output_dtype=out_dtype,
    )


@cache
def _has_blockwise(device: torch.device) -> bool:
    ones = torch.ones(TILE, TILE, device=device)
    codes = ones.to(torch.float8_e4m3fn)
    a = Rows(codes_RC=codes, scales_GR=torch.ones(1, TILE, device=device), width=TILE)
    scales_Erg = torch.ones(1, 1, 1, device=device)
    b = Blocks(codes_ERC=codes[None], scales_Erg=scales_Erg, height=TILE, width=TILE)
    try:
        out = matmul_blocks(a, b, out_dtype=torch.bfloat16)
    except (RuntimeError, ValueError, NotImplementedError):
        return False
    return bool((out == TILE).all())
