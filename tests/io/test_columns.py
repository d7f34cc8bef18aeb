"""Columns as arrays: what pyarrow's own lists hold, of slices and chunks as well."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dsv3data.io.columns import column_values, key_bytes, list_lengths

LISTS = [[1], [], [2, 3, 4], [5], [6, 7]]


@pytest.mark.parametrize(("start", "count"), [(0, 5), (1, 3), (2, 0), (4, 1)])
def test_slices(start: int, count: int) -> None:
    numbers = pa.array([3, 1, 4, 1, 5], pa.int32()).slice(start, count)
    assert column_values(numbers, np.int32).tolist() == numbers.to_pylist()
    for kind in (pa.list_(pa.int32()), pa.large_list(pa.int32())):
        lists = pa.array(LISTS, kind).slice(start, count)
        assert list_lengths(lists).tolist() == [len(part) for part in lists.to_pylist()]
        assert list_lengths(lists).dtype == np.int64
    keys = pa.array([bytes([n]) * 4 for n in range(5)], pa.binary(4)).slice(start, count)
    assert [row.tobytes() for row in key_bytes(keys)] == keys.to_pylist()


def test_chunks() -> None:
    numbers = pa.chunked_array([[1, 2], [], [3]], pa.int64())
    assert column_values(numbers, np.int64).tolist() == [1, 2, 3]
    assert column_values(pa.chunked_array([], pa.int64()), np.int64).dtype == np.int64
    keys = pa.chunked_array([[b"ab", b"cd"], [b"ef"]], pa.binary(2))
    assert key_bytes(keys).tobytes() == b"abcdef"
    assert key_bytes(pa.chunked_array([], pa.binary(2))).shape == (0, 2)
