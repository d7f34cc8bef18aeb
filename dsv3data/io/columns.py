"""Numbers of an Arrow column as a numpy array, from its buffer.

`to_numpy` and `np.array` of a column import pandas where it is installed: a second or two of each
process.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.generic)


def column_values(column: pa.Array | pa.ChunkedArray, dtype: type[_Number]) -> NDArray[_Number]:
    """A column without nulls as numbers of its own type, [N]; of an array, a view of its memory."""
    if isinstance(column, pa.ChunkedArray):
        parts = [column_values(chunk, dtype) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)
    if not len(column):
        return np.empty(0, dtype=dtype)
    values: NDArray[_Number] = np.frombuffer(column.buffers()[1], dtype=dtype)
    return values[column.offset : column.offset + len(column)]


def list_lengths(column: pa.ListArray | pa.LargeListArray) -> NDArray[np.int64]:
    """Items of each list of a column without nulls, int64 [N]."""
    offsets = column.offsets
    wide = pa.types.is_int64(offsets.type)
    values = column_values(offsets, np.int64) if wide else column_values(offsets, np.int32)
    return np.diff(values).astype(np.int64)


def key_bytes(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint8]:
    """A column of fixed-size binary without nulls, uint8 [N, its size]."""
    width = column.type.byte_width
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype=np.uint8)[
            chunk.offset * width : (chunk.offset + len(chunk)) * width
        ]
        for chunk in chunks
        if len(chunk)
    ]
    joined = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8)
    return joined.reshape(-1, width)
