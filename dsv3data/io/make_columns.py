"""Arrow columns of numpy arrays and texts.

`pa.array` makes the same, but imports pandas where it is installed: a second or two of each
process. `dsv3data.io.columns` is the way back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def column_of(values: NDArray[np.integer]) -> pa.Array:
    """Numbers [N] as a column of their type that uses their memory."""
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])


def strings_of(values: Sequence[str]) -> pa.StringArray:
    """Texts as a column."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(data) for data in encoded], out=offsets[1:])
    buffers = pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), *buffers)
