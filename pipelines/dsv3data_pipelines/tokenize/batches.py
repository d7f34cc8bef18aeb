"""Encoded documents → record batches of a token shard.

Ids come as one buffer for a group of documents, and reach the shard as Arrow buffers. (`pa.array`
is avoided: it imports pandas where that is installed, which takes longer than to encode 50 MB.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.io.sources import Document

# Ids after which a record batch ends, with the document that reaches them. It shapes the bytes.
_BATCH_IDS = 4 << 20


class Encoded(NamedTuple):
    """Documents with their ids: those of document i are values[offsets[i] : offsets[i + 1]]."""

    documents: list[Document]
    values: NDArray[np.int32]
    offsets: NDArray[np.int64]


def record_batches(groups: Iterable[Encoded], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of the token schema: each ends with the document that brings it to `_BATCH_IDS` ids,
    wherever groups end."""
    waiting: list[Encoded] = []
    n_ids = 0
    for group in groups:
        while n_ids + len(group.values) >= _BATCH_IDS:
            cut = int(np.searchsorted(group.offsets, _BATCH_IDS - n_ids + group.offsets[0]))
            head, group = _cut(group, cut)
            yield _batch([*waiting, head], schema)
            waiting, n_ids = [], 0
        if group.documents:
            waiting.append(group)
            n_ids += len(group.values)
    if waiting:
        yield _batch(waiting, schema)


def _cut(group: Encoded, n_documents: int) -> tuple[Encoded, Encoded]:
    documents, values, offsets = group
    border = offsets[n_documents]
    return (
        Encoded(documents[:n_documents], values[:border], offsets[: n_documents + 1]),
        Encoded(documents[n_documents:], values[border:], offsets[n_documents:] - border),
    )


def _batch(groups: Sequence[Encoded], schema: pa.Schema) -> pa.RecordBatch:
    documents = list(itertools.chain.from_iterable(group.documents for group in groups))
    values = np.concatenate([group.values for group in groups])
    offsets = np.zeros(len(documents) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([np.diff(group.offsets) for group in groups]), out=offsets[1:])
    count = len(documents)
    ids = pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])
    columns = [
        _fixed(pa.binary(16), count, b"".join([document.key for document in documents])),
        _strings([document.source for document in documents]),
        _fixed(pa.int64(), count, _int64([document.position for document in documents])),
        _strings([document.domain for document in documents]),
        _fixed(pa.int64(), count, _int64([document.n_bytes for document in documents])),
        pa.Array.from_buffers(
            schema.field("ids").type, count, [None, pa.py_buffer(offsets)], children=[ids]
        ),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _int64(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _fixed(kind: pa.DataType, count: int, values: Any) -> pa.Array:
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(values)])


def _strings(values: list[str]) -> pa.Array:
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)
