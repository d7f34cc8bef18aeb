"""cuBLAS's blockwise FP8 GEMMs, as torch ≥ 2.11 offers them. Same operands as our kernels.

Legend as in `reference.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.functional import ScalingType

from dsv3data.kernels import reference
from dsv3data.kernels.formats import Blocks, Rows
from dsv3data.kernels.measure import relative_error

MULTIPLE = 16  # of rows, on either side


def can_multiply_blocks(a: Rows, b: Blocks, out_dtype: torch.dtype) -> bool:
    """A stack of one, BF16 out, and a cuBLAS that has it (12.9, on Hopper)."""
    fits = _fits(a.n_rows, b.height) and len(b.codes_ERC) == 1 and out_dtype == torch.bfloat16
    return fits and _has_blocks(a.codes_RC.device)


def can_multiply_rows(a: Rows, b: Rows) -> bool:
    """The same for one weight gradient."""
    fits = _fits(a.n_rows, b.n_rows) and a.codes_RC.shape[1] > 0
    return fits and _has_rows(a.codes_RC.device)


def matmul_blocks(a: Rows, b: Blocks, *, out_dtype: torch.dtype) -> Tensor:
    """`reference.matmul_blocks` for a stack of one."""
    scales_rg = b.scales_Erg[0]
    # cuBLAS wants the tiles along K in multiples of four.
    padded = F.pad(scales_rg, (0, -scales_rg.shape[1] % 4))
    return F.scaled_mm(
        a.codes_RC,
        b.codes_ERC[0, : b.height].T,
        a.scales_GR.T,
        ScalingType.BlockWise1x128,
        padded.T,
        ScalingType.BlockWise128x128,
        output_dtype=out_dtype,
    )


def matmul_rows(a: Rows, b: Rows) -> Tensor:
    """`reference.matmul_rows` for one expert, whose slots are all columns: fp32 [1, M, N]."""
    out_MN = F.scaled_mm(
        a.codes_RC,
        b.codes_RC.T,
        a.scales_GR.T,
        ScalingType.BlockWise1x128,
        b.scales_GR.T,
        ScalingType.BlockWise1x128,
        output_dtype=torch.float32,
    )
    return out_MN.unsqueeze(0)


def _fits(m: int, n: int) -> bool:
    return m > 0 and m % MULTIPLE == 0 and n % MULTIPLE == 0


@cache
def _has_blocks(device: torch.device) -> bool:
    a, (b, _) = reference.quantise_rows(_sample(256, device)), _sample_blocks(device)
    expected = reference.matmul_blocks(a, b, out_dtype=torch.float32)
    return _gives(lambda: matmul_blocks(a, b, out_dtype=torch.bfloat16), expected)


@cache
def _has_rows(device: torch.device) -> bool:
    a, b = (reference.quantise_rows(_sample(rows, device)) for rows in (256, 384))
    starts = torch.tensor([0, a.codes_RC.shape[1]])
    return _gives(lambda: matmul_rows(a, b), reference.matmul_rows(a, b, starts))


def _sample(rows: int, device: torch.device) -> Tensor:
    """Made without the generators that training draws from; tiles of unequal scales."""
    numbers = torch.arange(rows * 640, device=device, dtype=torch.float32).view(rows, 640)
    return torch.sin(numbers * 1.7) * (1 + numbers.view(-1, 128) % 7).view(rows, 640)


def _sample_blocks(device: torch.device) -> tuple[Blocks, Blocks]:
    return reference.quantise_blocks(_sample(384, device).unsqueeze(0))


def _gives(multiply: Callable[[], Tensor], expected: Tensor) -> bool:
    try:
        found = multiply()
    except (RuntimeError, ValueError, NotImplementedError):
        return False
    return relative_error(found, expected) < 1e-2
