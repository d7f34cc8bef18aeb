"""Encoded documents → record batches of a token shard.

Columns from the reader to the shard: a document costs no Python here but its place in them. Ids
come as one buffer and stay one. (`pa.array` is avoided: it imports pandas where that is installed,
which takes longer than to encode 50 MB.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources import Document

# Ids after which a record batch ends, with the document that reaches them. It shapes the bytes.
_BATCH_IDS = 4 << 20
# What Arrow's offsets of strings reach to.
_MOST_NAME_BYTES = (1 << 31) - 1


class Encoded(NamedTuple):
    """N documents, one or more, as columns; the ids of all stand one after the other.

    Attributes:
        keys: uint64 [N, 2].
        positions, n_bytes: int64 [N].
        n_tokens: ids of each document, int64 [N].
        ids: int32 [sum of n_tokens].
    """

    keys: NDArray[np.uint64]
    sources: Sequence[str]
    positions: NDArray[np.int64]
    domains: Sequence[str]
    n_bytes: NDArray[np.int64]
    n_tokens: NDArray[np.int64]
    ids: NDArray[np.int32]

    @classmethod
    def of(
        cls, documents: Sequence[Document], ids: NDArray[np.int32], offsets: NDArray[np.int64]
    ) -> Encoded:
        """Documents with what an engine gave for their texts."""
        keys, sources, positions, domains, _, n_bytes, _ = zip(*documents, strict=True)
        return cls(
            keys=np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2),
            sources=sources,
            positions=np.array(positions, dtype=np.int64),
            domains=domains,
            n_bytes=np.array(n_bytes, dtype=np.int64),
            n_tokens=np.diff(offsets),
            ids=ids,
        )

    def cut(self, n_documents: int) -> tuple[Encoded, Encoded]:
        """The first documents, and the others."""
        border = int(self.n_tokens[:n_documents].sum())
        return (
            self._part(slice(n_documents), slice(border)),
            self._part(slice(n_documents, None), slice(border, None)),
        )

    def _part(self, rows: slice, ids: slice) -> Encoded:
        return Encoded(
            keys=self.keys[rows],
            sources=self.sources[rows],
            positions=self.positions[rows],
            domains=self.domains[rows],
            n_bytes=self.n_bytes[rows],
            n_tokens=self.n_tokens[rows],
            ids=self.ids[ids],
        )


def record_batches(groups: Iterable[Encoded], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of the token schema: each ends with the document that brings it to `_BATCH_IDS` ids,
    wherever groups end."""
    waiting: list[Encoded] = []
    n_ids = 0
    for group in groups:
        while n_ids + len(group.ids) >= _BATCH_IDS:
            ends = np.cumsum(group.n_tokens)
            head, group = group.cut(int(np.searchsorted(ends, _BATCH_IDS - n_ids)) + 1)
            yield _batch([*waiting, head], schema)
            waiting, n_ids = [], 0
        if len(group.n_tokens):
            waiting.append(group)
            n_ids += len(group.ids)
    if waiting:
        yield _batch(waiting, schema)


def _batch(groups: Sequence[Encoded], schema: pa.Schema) -> pa.RecordBatch:
    keys, sources, positions, domains, n_bytes, n_tokens, ids = zip(*groups, strict=True)
    ends = np.cumsum(np.concatenate([[0], *n_tokens]), dtype=np.int64)
    values = np.concatenate(ids)
    count = len(ends) - 1
    lists = [_fixed(pa.int32(), len(values), values)]
    columns = [
        _fixed(pa.binary(16), count, np.concatenate(keys)),
        _strings([source for group in sources for source in group]),
        _fixed(pa.int64(), count, np.concatenate(positions)),
        _strings([domain for group in domains for domain in group]),
        _fixed(pa.int64(), count, np.concatenate(n_bytes)),
        pa.Array.from_buffers(
            schema.field("ids").type, count, [None, pa.py_buffer(ends)], children=lists
        ),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _fixed(kind: pa.DataType, count: int, values: NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(values)])


def _strings(values: Sequence[str]) -> pa.Array:
    """Few of them differ."""
    encoded = {value: value.encode("utf-8") for value in set(values)}
    data = [encoded[value] for value in values]
    offsets = np.zeros(len(data) + 1, dtype=np.int64)
    np.cumsum([len(value) for value in data], out=offsets[1:])
    if offsets[-1] > _MOST_NAME_BYTES:
        raise BadInput(
            f"the names of {len(data):,} short documents take more than {_MOST_NAME_BYTES:,} bytes",
            where=values[0][:200],
            effect="nothing of this unit was published",
            fix="give files, and sources of a datatrove pipeline, shorter names",
        )
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(data), buffers)
