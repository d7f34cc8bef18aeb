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

from dsv3data.contracts.manifest import PACKED
from dsv3data.contracts.progress import Sink
from dsv3data.io.columns import column_values, list_lengths
from dsv3data_pipelines.export.source import Source

_MAGIC, _VERSION, _INT32 = b"MMIDIDX\0\0", 1, 4

# Ids of several sequences one after the other, int32, and the length of each, int32.
Sequences = tuple[NDArray[np.int32], NDArray[np.int32]]


def write_megatron(source: Source, folder: Path, sink: Sink) -> None:
    """DOMAIN_text_document.bin and .idx for each domain, sequences in the order of the set.

    Memory: one record batch, and 4 bytes a sequence.
    """
    writers: dict[str, _Pair] = {}
    packed = source.manifest.format == PACKED
    eos = source.vocabulary.control.eos
    with contextlib.ExitStack() as files:
        for _, _, batches in source.shards:
            for batch in batches:
                for domain, ids, lengths in _by_domain(batch, None if packed else eos):
                    if domain not in writers:
                        prefix = folder / f"{domain}_text_document"
                        file = files.enter_context(Path(f"{prefix}.bin").open("wb"))
                        writers[domain] = _Pair(prefix, file)
                    writers[domain].add(ids, lengths)
                sink.advance(batch.num_rows)
    for pair in writers.values():
        pair.write_index()


class _Pair:
    """A .bin that grows and the .idx that is written at the end."""

    def __init__(self, prefix: Path, file: BinaryIO) -> None:
        self._prefix, self._file = prefix, file
        self._lengths: list[NDArray[np.int32]] = []

    def add(self, ids: NDArray[np.int32], lengths: NDArray[np.int32]) -> None:
        self._file.write(np.ascontiguousarray(ids, dtype="<i4").data)
        self._lengths.append(lengths)

    def write_index(self) -> None:
        lengths = np.concatenate(self._lengths)
        count = len(lengths)
        offsets = 4 * (np.cumsum(lengths, dtype=np.int64) - lengths)
        with Path(f"{self._prefix}.idx").open("wb") as file:
            file.write(_MAGIC + struct.pack("<QBQQ", _VERSION, _INT32, count, count + 1))
            file.write(lengths.astype("<i4").data)
            file.write(offsets.astype("<i8").data)
            file.write(np.arange(count + 1).astype("<i8").data)


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
