"""Numbers of 8 and 12 bits that share a scale within a tile [§3.3.2].

E4M3 (sign, 4 exponent and 3 mantissa bits; largest value 448) is the format of every GEMM operand;
E5M6 (largest 65,024) is a cache for the one activation that needs more [§3.3.3].

A tile is 128 neighbours of a row (activations, gradients) or 128×128 (weights). Rules for a tile:

- its scale is amax / largest value, or the next power of two above that;
- amax below 2^-100, 0 included, counts as 2^-100: scales and their inverses stay normal fp32;
- a tile with a NaN or an infinity gets the scale NaN and codes 0, so that every product with it is
  NaN: the fault is seen, never clamped away;
- a last, shorter tile is filled up with zeros, and the filling is part of the codes.

Legend: R rows, C columns (the axis that a GEMM sums over, in whole tiles), G = C / 128 tiles,
E matrices of a stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 128
SMALLEST_AMAX = 2.0**-100


@dataclass(frozen=True, kw_only=True)
class Format:
    """A small float without infinities in use."""

    mantissa_bits: int
    smallest_exponent: int  # of normal numbers; below it the steps stay equal
    largest: float

    @property
    def largest_exponent(self) -> int:
        return int(torch.frexp(torch.tensor(self.largest))[1]) - 1


E4M3 = Format(mantissa_bits=3, smallest_exponent=-6, largest=448.0)
E5M6 = Format(mantissa_bits=6, smallest_exponent=-14, largest=65_024.0)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A matrix in E4M3 with one scale per 128 neighbours of a row."""

    codes_RC: Tensor  # float8_e4m3fn, contiguous
    scales_GR: Tensor  # fp32, contiguous: the scales of one tile column lie side by side
    width: int  # columns that mean something; the rest is filling

    @property
    def n_rows(self) -> int:
        return self.codes_RC.shape[0]

    @property
    def n_bytes(self) -> int:
        return self.codes_RC.nbytes + self.scales_GR.nbytes


@dataclass(frozen=True, kw_only=True)
class Rows12:
    """A matrix in E5M6 with one scale per 128 neighbours of a row: a cache, no GEMM's operand."""

    packed_RB: Tensor  # uint8, contiguous, B = 3 · C / 2; see `e5m6_bytes`
    scales_GR: Tensor  # fp32, contiguous
    width: int  # columns that mean something

    @property
    def n_rows(self) -> int:
        return self.packed_RB.shape[0]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A stack of matrices in E4M3 with one scale per 128×128; rows are filled up as well."""

    codes_ERC: Tensor  # float8_e4m3fn, contiguous
    scales_Erg: Tensor  # fp32 [E, R / 128, C / 128], contiguous
    height: int  # rows that mean something
    width: int  # columns that mean something


def whole_tiles(length: int) -> int:
    """The next multiple of 128."""
    return -(-length // TILE) * TILE


def scale_of(amax: Tensor, fmt: Format, *, power_of_two: bool) -> Tensor:
    """fp32 scales of tiles with these largest magnitudes, any shape; NaN where amax is not finite.

    A power of two costs up to one binade at the top of the range and makes moving a value to
    another tile's scale exact, short of underflow [§3.3.3].
    """
    floored = amax.clamp(min=SMALLEST_AMAX)
    if power_of_two:
        mantissa, exponent = torch.frexp(floored)
        top_mantissa = fmt.largest / 2.0 ** (fmt.largest_exponent + 1)
        scale = _power_of_two(exponent - 1 - fmt.largest_exponent + (mantissa > top_mantissa))
    else:
        scale = floored * (1 / fmt.largest)
    return torch.where(torch.isfinite(amax), scale, torch.nan)


def to_e4m3(x: Tensor) -> Tensor:
    """fp32 → float8_e4m3fn, ties to even.

    Clamps first: a product with a rounded inverse may exceed 448 by an ulp, and what a cast makes
    of that is NaN in torch 2.11 and 448 in 2.13.
    """
    return x.clamp(-E4M3.largest, E4M3.largest).to(torch.float8_e4m3fn)


def round_to(x: Tensor, fmt: Format) -> Tensor:
    """The nearest value of a format, ties to even, as fp32: the definition; twin of `to_e4m3`."""
    exponent = torch.frexp(x)[1] - 1
    step = _power_of_two(exponent.clamp(min=fmt.smallest_exponent) - fmt.mantissa_bits)
    return (torch.round(x / step) * step).clamp(-fmt.largest, fmt.largest)


def _power_of_two(exponent: Tensor) -> Tensor:
    """fp32 2^n for int32 n from -126 to 127, by its bits: a library's pow may be off by an ulp."""
    return ((exponent + 127) << 23).view(torch.float32)


def e5m6_bytes(x_RC: Tensor) -> Tensor:
    """fp32 values within ±65,024, C in whole tiles → uint8 [R, 3C/2].

    A code is the upper 12 bits of the same number in fp16. The 192 bytes of a tile are the lower 8
    bits of its codes, then the upper 4 bits of code i and of code i + 64 in byte 128 + i: so a
    kernel writes and reads neighbours.
    """
    halves = round_to(x_RC, E5M6).to(torch.float16).view(torch.int16).to(torch.int32) & 0xFFFF
    codes_RGt = torch.unflatten(halves >> 4, -1, (-1, TILE))
    left, right = (codes_RGt >> 8).chunk(2, dim=-1)
    return torch.cat((codes_RGt & 0xFF, left | (right << 4)), dim=-1).flatten(-2).to(torch.uint8)


def e5m6_values(packed: Tensor) -> Tensor:
    """The reverse: uint8 [R, 3C/2] → fp32 [R, C]."""
    tiles = torch.unflatten(packed.to(torch.int32), -1, (-1, TILE * 3 // 2))
    low, pairs = torch.split(tiles, [TILE, TILE // 2], dim=-1)
    high = torch.cat((pairs & 0xF, pairs >> 4), dim=-1)
    halves = ((high << 12) | (low << 4)).flatten(-2)
    signed = torch.where(halves >= 1 << 15, halves - (1 << 16), halves)
    return signed.to(torch.int16).view(torch.float16).float()
