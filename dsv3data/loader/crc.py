"""CRC-32 of a concatenation from the CRCs of its parts, without the bytes.

CRC-32 (as in zlib) is affine over GF(2): crc(a + b) = shift(crc(a), len(b)) ^ crc(b), where shift
appends zero bytes and is a linear map of 32 bits. So the checksum of a record batch can be checked
against the checksums of its rows and the bytes around them, and the rows need not be read.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0xEDB88320

# A linear map of 32 bits: entry i is the image of bit i.
Matrix = tuple[int, ...]


def combine(first: int, second: int, second_bytes: int) -> int:
    """CRC of a + b from crc(a), crc(b) and len(b)."""
    return _apply(_shift_matrix(second_bytes), first) ^ second


def combine_equal(crcs: NDArray[np.uint32], part_bytes: int) -> int:
    """CRC of the concatenation of parts of `part_bytes` bytes each, from their CRCs uint32 [N].

    Pairs are joined level by level: O(N) table look-ups in numpy. No parts have CRC 0.
    """
    level, size = crcs.astype(np.uint32), part_bytes
    while len(level) > 1:
        if len(level) % 2:  # an empty message before the first: its CRC 0 shifts to 0
            level = np.concatenate([np.zeros(1, dtype=np.uint32), level])
        tables = _shift_tables(size)
        first, second = level[0::2], level[1::2]
        level = second.copy()
        for byte, table in enumerate(tables):
            level ^= table[(first >> np.uint32(8 * byte)) & np.uint32(255)]
        size *= 2
    return int(level[0]) if len(level) else 0


@lru_cache(maxsize=128)
def _shift_matrix(n_bytes: int) -> Matrix:
    """The map that appends `n_bytes` zero bytes to a message, by squaring."""
    result: Matrix = tuple(1 << bit for bit in range(32))
    # One zero bit: the register moves down, and bit 0 leaves through the polynomial.
    power: Matrix = (_POLYNOMIAL, *(1 << (bit - 1) for bit in range(1, 32)))
    remaining = 8 * n_bytes
    while remaining:
        if remaining & 1:
            result = _product(power, result)
        power = _product(power, power)
        remaining >>= 1
    return result


@lru_cache(maxsize=128)
def _shift_tables(n_bytes: int) -> NDArray[np.uint32]:
    """`_shift_matrix` as four look-up tables, one for each byte of the CRC, uint32 [4, 256]."""
    images = np.array(_shift_matrix(n_bytes), dtype=np.uint32).reshape(4, 8)
    tables = np.zeros((4, 1), dtype=np.uint32)
    for bit in range(8):  # entries with this bit set: those without it, plus the bit's image
        tables = np.hstack([tables, tables ^ images[:, bit : bit + 1]])
    return tables


def _apply(matrix: Matrix, vector: int) -> int:
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
    return result


def _product(after: Matrix, before: Matrix) -> Matrix:
    return tuple(_apply(after, column) for column in before)
