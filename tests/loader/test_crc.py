"""CRCs of concatenations against zlib over the bytes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv3data.loader.crc import combine, combine_equal


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combine_equals_zlib_over_the_concatenation(first: bytes, second: bytes) -> None:
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


def test_combine_over_many_zeros() -> None:
    zeros = bytes(1 << 26)
    expected = zlib.crc32(zeros, zlib.crc32(b"start"))
    assert combine(zlib.crc32(b"start"), zlib.crc32(zeros), len(zeros)) == expected


@pytest.mark.parametrize("part_bytes", [1, 64, 16384])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 100, 255])
def test_combine_equal_equals_zlib(count: int, part_bytes: int) -> None:
    data = np.random.default_rng(count).bytes(count * part_bytes)
    parts = [data[i * part_bytes : (i + 1) * part_bytes] for i in range(count)]
    crcs = np.array([zlib.crc32(part) for part in parts], dtype=np.uint32)
    assert combine_equal(crcs, part_bytes) == zlib.crc32(data)
