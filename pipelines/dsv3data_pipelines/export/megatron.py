"""Megatron-LM's IndexedDataset: NAME.bin holds ids, NAME.idx says where sequences lie in it.

    NAME.idx   "MMIDIDX" NUL NUL | version u64 = 1 | type code u8 = 4 (int32)
               | sequences u64 | document borders u64 = documents + 1
               | length of each sequence i32 | byte offset of each sequence i64
               | number of the first sequence of each document, and the number of all, i64

All little-endian. One pair per domain, so that Megatron's own blending has its weights.

From a token set a sequence is a document, closed by the end-of-sentence id (`--append-eod`):
Megatron then cuts and mixes as it always does. From a packed set a sequence, and a document, is a
row of L ids: with `--seq-length L` each of Megatron's samples is one row (whose last label is the
first id of the next), so packing and FIM stay whole.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import atomic_writer, write_atomic
from dsv3data.io.columns import column_values, list_lengths
from dsv3data_pipelines.export.source import Source

_MAGIC, _VERSION, _INT32 = b"MMIDIDX\0\0", 1, 4

# Ids of several sequences one after the other, int32, and the length of each, int32.
Sequences = tuple[NDArray[np.int32], NDArray[np.int32]]


def prefix_of(domain: str) -> str:
    """Name of a domain's pair of files, without its endings."""
    return f"{domain}_text_document"


def write_megatron(source: Source, out: Path, sink: Sink) -> None:
    """`prefix_of(domain)`.bin and .idx for each domain of the shards, sequences in their order.

    Memory: one record batch, and 4 bytes a sequence.
    """
    writers: dict[str, _Pair] = {}
    with contextlib.ExitStack() as files:
        for batch in source.batches():
            for domain, ids, lengths in _by_domain(batch, None if source.packed else source.eos):
                if domain not in writers:
                    path = out / f"{prefix_of(domain)}.bin"
                    writers[domain] = _Pair(files.enter_context(atomic_writer(path)))
                writers[domain].add(ids, lengths)
            sink.advance(batch.num_rows)
        for domain, pair in writers.items():
            write_atomic(out / f"{prefix_of(domain)}.idx", pair.index())


class _Pair:
    """A .bin that grows, and its .idx."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lengths: list[NDArray[np.int32]] = []

    def add(self, ids: NDArray[np.int32], lengths: NDArray[np.int32]) -> None:
        self._file.write(np.ascontiguousarray(ids, dtype="<i4").data)
        self._lengths.append(lengths)

    def index(self) -> bytes:
        lengths = np.concatenate(self._lengths)
        count = len(lengths)
        offsets = 4 * (np.cumsum(lengths, dtype=np.int64) - lengths)
        columns = [lengths.astype("<i4"), offsets.astype("<i8"), np.arange(count + 1).astype("<i8")]
        head = _MAGIC + struct.pack("<QBQQ", _VERSION, _INT32, count, count + 1)
        return head + b"".join(column.tobytes() for column in columns)


def _by_domain(
    batch: pa.RecordBatch, eos: int | None
) -> Iterator[tuple[str, NDArray[np.int32], NDArray[np.int32]]]:
    """The batch's sequences by domain: name, ids one after the other, length of each."""
    domains = batch.column("domain").dictionary_encode()
    which = column_values(domains.indices, np.int32)
    for number, name in enumerate(domains.dictionary.to_pylist()):
        chosen = batch if len(domains.dictionary) == 1 else batch.filter(pa.array(which == number))
        if eos is None:
            column = chosen.column("input_ids")
            lengths = np.full(len(column), column.type.list_size, dtype=np.int32)
            yield name, column_values(column.flatten(), np.int32), lengths
        else:
            yield name, *_closed(chosen.column("ids"), eos)


def _closed(column: pa.LargeListArray, eos: int) -> Sequences:
    """Documents with their end-of-sentence id."""
    ids = column_values(column.flatten(), np.int32)
    ends = np.cumsum(list_lengths(column))
    lengths = np.diff(ends, prepend=0) + 1
    return np.insert(ids, ends, eos).astype(np.int32), lengths.astype(np.int32)
