"""Counting unique pre-tokens, and the artefact that the counts are.

Tables of several workers add up, in any order, to the same artefact: an Arrow file with the columns
`word` (binary) and `count` (int64), sorted by the words' bytes. A table that outgrows its limit is
written out as a sorted run; runs are merged with a bounded number of rows in memory.
`reference.word_counts` is the slow twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from dsv3data.io.atomic import atomic_writer
from dsv3data_tokenizer.scan import Scanner
from dsv3data_tokenizer.unicode_classes import scanner_classes
from dsv3data_tokenizer.word_table import PADDING_BYTES, WordTable

SCHEMA = pa.schema([pa.field("word", pa.binary()), pa.field("count", pa.int64())])

_PIECES_AT_ONCE = 1 << 14
_BATCH_BYTES = 1 << 20
# Rows and bytes of one record batch of the artefact.
_BATCH_ROWS = 1 << 16
_BATCH_WORD_BYTES = 16 << 20


class WordCounts:
    """Occurrences of unique words, in memory."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all words and give the memory back."""
        self._table = WordTable()

    def __len__(self) -> int:
        return len(self._table)

    @property
    def size_bytes(self) -> int:
        """Memory held. `to_table` takes up to twice as much for a moment."""
        return self._table.size_bytes

    def size_bytes_soon(self) -> int:
        """Memory held after another batch of documents, as it is likely to be."""
        return self._table.size_bytes_soon(_BATCH_BYTES // 4)

    def add_documents(self, documents: Iterable[bytes]) -> None:
        """Count the pre-tokens of documents, each valid UTF-8."""
        for batch in _in_batches(documents):
            self._add_batch(batch)

    def add_words(self, words: pa.BinaryArray, counts: NDArray[np.int64]) -> None:
        """Add the counts of words, as another table has exported them; no word is empty."""
        if not len(words):
            return
        offsets, data = offsets_and_bytes(words)
        # A copy, because kernels would be compiled again for an array that is read-only.
        self._table.add(data, 0, offsets[1:], np.array(counts, dtype=np.int64))

    def to_table(self) -> pa.Table:
        """The columns of SCHEMA sorted by the words' bytes, in batches of bounded size."""
        return pa.Table.from_batches(_batches(*self._table.sorted_words()), schema=SCHEMA)

    def _add_batch(self, documents: Sequence[bytes]) -> None:
        data = np.frombuffer(bytearray().join([*documents, bytes(PADDING_BYTES)]), dtype=np.uint8)
        stops = np.cumsum([len(document) for document in documents], dtype=np.int64)
        scanner = Scanner(data, stops, scanner_classes())
        ends = np.empty(_PIECES_AT_ONCE, dtype=np.int64)
        start = 0
        while count := scanner.next_ends(ends):
            self._table.add(data, start, ends[:count])
            start = scanner.position


def count_words(documents: Iterable[bytes]) -> pa.Table:
    """Unique pre-tokens of the documents (valid UTF-8) and their counts, sorted by bytes."""
    counts = WordCounts()
    counts.add_documents(documents)
    return counts.to_table()


class SpillingWordCounts:
    """`WordCounts` within a limit of memory: what does not fit lies as sorted runs in a folder.

    Args:
        folder: where runs go, as `run-00000.arrow` and so on; belongs to this object alone.
        limit_bytes: size that the table keeps within. It is looked at after every megabyte of
            documents; writing a table out takes up to twice its size in addition.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._counts = WordCounts()
        self.runs: list[Path] = []

    def add_documents(self, documents: Iterable[bytes]) -> None:
        """Count the pre-tokens of documents, each valid UTF-8."""
        for batch in _in_batches(documents):
            self._counts.add_documents(batch)
            if self._counts.size_bytes_soon() > self._limit_bytes:
                self._spill()

    def finish(self, path: Path) -> int:
        """Publish the counts at `path`; the number of unique words. Runs are removed."""
        if not self.runs:
            return write_counts(path, self._counts.to_table().to_batches())
        if len(self._counts):
            self._spill()
        words = merge_counts(self.runs, path)
        for run in self.runs:
            run.unlink()
        self.runs = []
        return words

    def _spill(self) -> None:
        path = self._folder / f"run-{len(self.runs):05d}.arrow"
        write_counts(path, self._counts.to_table().to_batches())
        self.runs.append(path)
        self._counts.clear()


def write_counts(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Publish batches of SCHEMA as an Arrow IPC file; the number of rows.

    The same rows give the same bytes, however they were batched.
    """
    rows = 0
    with atomic_writer(path) as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in _rebatched(batches):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def read_counts(path: Path) -> pa.Table:
    """The whole artefact, mapped rather than read."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def merge_counts(paths: Sequence[Path], out: Path) -> int:
    """Merge sorted count files into one at `out`; the number of unique words.

    Memory: one batch of each file and its words' table, whatever the sizes of the files.
    """
    return write_counts(out, _merged_batches([_batches_of(path) for path in paths]))


def _merged_batches(sources: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Repeatedly take, from every source, all words up to the smallest of the batches' last ones:
    no later batch can hold any of them."""
    heads = {number: head for number, source in enumerate(sources) if (head := next(source, None))}
    counts = WordCounts()
    while heads:
        limit = min(batch["word"][-1].as_py() for batch in heads.values())
        for number, batch in list(heads.items()):
            taken = _rows_up_to(batch["word"], limit)
            counts.add_words(batch["word"][:taken], counts_of(batch["count"])[:taken])
            rest = batch.slice(taken) if taken < batch.num_rows else next(sources[number], None)
            if rest is None:
                del heads[number]
            else:
                heads[number] = rest
        yield from counts.to_table().to_batches()
        counts.clear()


def _rows_up_to(words: pa.BinaryArray, limit: bytes) -> int:
    """Rows of a sorted array that are not beyond `limit`, by bisection."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        if words[middle].as_py() <= limit:
            low = middle + 1
        else:
            high = middle
    return low


def _batches_of(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            if batch.num_rows:
                yield batch


def _rebatched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows as `_batches` would cut them if they came at once."""
    held = pa.Table.from_batches([], schema=SCHEMA)
    for batch in batches:
        table = pa.concat_tables([held, pa.Table.from_batches([batch])])
        *full, last = _batches(*offsets_and_bytes(table["word"]), counts_of(table["count"]))
        yield from full
        held = pa.Table.from_batches([last])
    yield from held.to_batches()


def _batches(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], counts: NDArray[np.int64]
) -> Iterator[pa.RecordBatch]:
    """Batches of at most _BATCH_ROWS rows and, but for one long word, _BATCH_WORD_BYTES bytes.

    Built from plain buffers, so that equal rows are equal bytes in a file. (And `pa.array` imports
    pandas where it is installed, which takes seconds.)
    """
    first = 0
    while first < len(counts):
        limit = offsets[first] + _BATCH_WORD_BYTES
        fitting = int(np.searchsorted(offsets, limit, side="right")) - 1
        behind = min(max(fitting, first + 1), first + _BATCH_ROWS)
        part = (offsets[first : behind + 1] - offsets[first]).astype(np.int32)
        word_bytes = data[offsets[first] : offsets[behind]]
        columns = [
            pa.Array.from_buffers(pa.binary(), behind - first, _buffers(part, word_bytes)),
            pa.Array.from_buffers(pa.int64(), behind - first, _buffers(counts[first:behind])),
        ]
        yield pa.record_batch(columns, schema=SCHEMA)
        first = behind


def _buffers(*arrays: NDArray[Any]) -> list[pa.Buffer | None]:
    """Arrow's buffers of a column without nulls."""
    return [None, *(pa.py_buffer(np.ascontiguousarray(array)) for array in arrays)]


def offsets_and_bytes(
    words: pa.Array | pa.ChunkedArray,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets, int64 [N + 1] from 0 on, and the bytes with PADDING_BYTES behind them."""
    words = words.cast(pa.large_binary())
    if isinstance(words, pa.ChunkedArray):
        words = words.combine_chunks()
    _, offset_buffer, data_buffer = words.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[words.offset :][: len(words) + 1]
    size = int(offsets[-1] - offsets[0])
    data = np.zeros(size + PADDING_BYTES, dtype=np.uint8)
    if size:
        data[:size] = np.frombuffer(data_buffer, dtype=np.uint8)[offsets[0] :][:size]
    return offsets - offsets[0], data


def counts_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """The column `count`, int64 [N]. (`to_numpy` would import pandas where it is installed.)"""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    values = np.frombuffer(column.buffers()[1], dtype=np.int64)
    return values[column.offset : column.offset + len(column)]


def _in_batches(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
