"""CRC-32 of a concatenation from the CRCs of its parts, without the bytes.

CRC-32 (as in zlib) is a remainder of polynomials over GF(2): crc(a + b) = crc(a) · x^(8 len(b)) ^
crc(b). So the checksum of a record batch can be checked against the checksums of its rows and the
bytes around them, and the rows need not be read. As everywhere in this CRC, bit 31 is x^0.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0xEDB88320


def combine(first: int, second: int, second_bytes: int) -> int:
    """CRC of a + b from crc(a), crc(b) and len(b)."""
    return _product(_shift(second_bytes), first) ^ second


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
def _shift(n_bytes: int) -> int:
    """x^(8 n_bytes), by squaring: what appends so many zero bytes to a message."""
    result, power = 1 << 31, 1 << 23
    while n_bytes:
        if n_bytes & 1:
            result = _product(power, result)
        power = _product(power, power)
        n_bytes >>= 1
    return result


@lru_cache(maxsize=128)
def _shift_tables(n_bytes: int) -> NDArray[np.uint32]:
    """Products with `_shift(n_bytes)`, a table for each byte of the CRC, uint32 [4, 256]."""
    images = [_product(_shift(n_bytes), 1 << bit) for bit in range(32)]
    tables = np.zeros((4, 1), dtype=np.uint32)
    for image in np.array(images, dtype=np.uint32).reshape(4, 8).T:
        # Entries with this bit set: those without it, plus the bit's image.
        tables = np.hstack([tables, tables ^ image[:, None]])
    return tables


def _product(first: int, second: int) -> int:
    """Product of two polynomials modulo that of the CRC."""
    result = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            result ^= second
        second = second >> 1 ^ (_POLYNOMIAL if second & 1 else 0)
    return result
