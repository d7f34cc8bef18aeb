"""Counting unique pre-tokens: a hash table over an arena of bytes, with 64-bit counts.

Tables of several workers add up, in any order, to the same artefact: an Arrow file with the columns
`word` (binary) and `count` (int64), sorted by the words' bytes. A table that outgrows its limit is
written out as a sorted run; runs are merged with a bounded number of rows in memory.
`reference.word_counts` is the slow twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
from numpy.typing import NDArray

from dsv3data.io.atomic import atomic_writer
from dsv3data_tokenizer.compiled import compiled, inlined, load_u64, signed
from dsv3data_tokenizer.scan import PADDING_BYTES, Scanner
from dsv3data_tokenizer.unicode_classes import scanner_classes

SCHEMA = pa.schema([pa.field("word", pa.binary()), pa.field("count", pa.int64())])

# Columns of the hash table. A slot is empty when its length is 0. The tag of a word of up to seven
# bytes is the word itself with its length, so that most look-ups end at the first comparison; the
# tag of a longer one is its hash.
_TAG, _COUNT, _START, _LENGTH = range(4)
_SHORT = 8
_SLOTS_AT_FIRST = 1 << 14
_BYTES_AT_FIRST = 1 << 18
_PIECES_AT_ONCE = 1 << 14
_BATCH_BYTES = 1 << 20
# Rows and bytes of one record batch of the artefact.
_BATCH_ROWS = 1 << 16
_BATCH_WORD_BYTES = 16 << 20

# SplitMix64's increment: odd, with well-spread bits.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BITS_OF_A_BYTE = np.uint64(8)
_LENGTH_SHIFT = np.uint64(56)
_LONG_TAG = np.uint64(0xFF << 56)
_ONE = np.uint64(1)
_FOLD_INNER, _FOLD_LAST, _SLOT_SHIFT = np.uint64(29), np.uint64(32), np.uint64(20)


class WordCounts:
    """Occurrences of unique words. Memory: 43 to 85 bytes a word and its bytes once or twice."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all words and give the memory back."""
        self._table = np.zeros((_SLOTS_AT_FIRST, 4), dtype=np.int64)
        self._arena = np.empty(_BYTES_AT_FIRST, dtype=np.uint8)
        self._used = np.zeros(2, dtype=np.int64)  # words, bytes of the arena

    def __len__(self) -> int:
        return int(self._used[0])

    @property
    def size_bytes(self) -> int:
        """Memory held. `to_table` takes up to twice as much for a moment."""
        return self._table.nbytes + self._arena.nbytes

    def size_bytes_soon(self) -> int:
        """Memory held after another batch of documents, as it is likely to be."""
        words, used_bytes = self._used.tolist()
        grown_slots = 4 * words > 3 * 0.95 * len(self._table)
        grown_arena = used_bytes + _BATCH_BYTES // 4 > len(self._arena)
        return self._table.nbytes * (1 + grown_slots) + self._arena.nbytes * (1 + grown_arena)

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
        self._add_pieces(data, 0, offsets[1:], np.array(counts, dtype=np.int64))

    def to_table(self) -> pa.Table:
        """The columns of SCHEMA sorted by the words' bytes, in batches of bounded size."""
        rows = self._table[self._table[:, _LENGTH] > 0]
        order = pc.sort_indices(_words_of(self._arena, rows))
        rows = rows[order.to_numpy()]
        words = _words_of(self._arena, rows)
        return pa.Table.from_batches(_batches(words, rows[:, _COUNT]), schema=SCHEMA)

    def _add_batch(self, documents: Sequence[bytes]) -> None:
        data = np.frombuffer(bytearray().join([*documents, bytes(PADDING_BYTES)]), dtype=np.uint8)
        stops = np.cumsum([len(document) for document in documents], dtype=np.int64)
        scanner = Scanner(data, stops, scanner_classes())
        ends = np.empty(_PIECES_AT_ONCE, dtype=np.int64)
        start = 0
        while count := scanner.next_ends(ends):
            self._add_pieces(data, start, ends[:count], None)
            start = scanner.position

    def _add_pieces(
        self,
        data: NDArray[np.uint8],
        start: int,
        ends: NDArray[np.int64],
        counts: NDArray[np.int64] | None,
    ) -> None:
        weights = np.ones(1, dtype=np.int64) if counts is None else counts
        step = 0 if counts is None else 1
        done = 0
        while True:
            done = int(
                _count(data, start, ends, done, weights, step, self._table, self._arena, self._used)
            )
            if done == len(ends):
                return
            begin = int(ends[done - 1]) if done else start
            self._make_room(int(ends[done]) - begin)

    def _make_room(self, word_bytes: int) -> None:
        """Room for one more word of this size, and for as many again as there are."""
        if not _has_slot(int(self._used[0]), len(self._table)):
            larger = np.zeros((2 * len(self._table), 4), dtype=np.int64)
            _rehash(self._table, larger)
            self._table = larger
        needed = int(self._used[1]) + word_bytes + PADDING_BYTES
        if needed > len(self._arena):
            arena = np.empty(max(needed, 2 * len(self._arena)), dtype=np.uint8)
            arena[: self._used[1]] = self._arena[: self._used[1]]
            self._arena = arena


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
            counts.add_words(batch["word"][:taken], batch["count"][:taken].to_numpy())
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
    held = SCHEMA.empty_table()
    for batch in batches:
        table = pa.concat_tables([held, pa.Table.from_batches([batch])])
        *full, last = _batches(table["word"], table["count"].to_numpy())
        yield from full
        held = pa.Table.from_batches([last])
    yield from held.to_batches()


def _batches(
    words: pa.Array | pa.ChunkedArray, counts: NDArray[np.int64]
) -> Iterator[pa.RecordBatch]:
    """Batches of at most _BATCH_ROWS rows and, but for one long word, _BATCH_WORD_BYTES bytes.

    Built from plain buffers, so that equal rows are equal bytes in a file.
    """
    offsets, data = offsets_and_bytes(words)
    first = 0
    while first < len(words):
        limit = offsets[first] + _BATCH_WORD_BYTES
        fitting = int(np.searchsorted(offsets, limit, side="right")) - 1
        behind = min(max(fitting, first + 1), first + _BATCH_ROWS)
        part = (offsets[first : behind + 1] - offsets[first]).astype(np.int32)
        buffers = [None, pa.py_buffer(part), pa.py_buffer(data[offsets[first] : offsets[behind]])]
        column = pa.BinaryArray.from_buffers(pa.binary(), behind - first, buffers)
        yield pa.record_batch([column, pa.array(counts[first:behind])], schema=SCHEMA)
        first = behind


def _words_of(arena: NDArray[np.uint8], rows: NDArray[np.int64]) -> pa.LargeBinaryArray:
    """The words of some rows of the hash table, in their order."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(rows[:, _LENGTH], out=offsets[1:])
    data = np.empty(offsets[-1], dtype=np.uint8)
    _gather(arena, np.ascontiguousarray(rows), offsets, data)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(rows), buffers)


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


@compiled
def _count(
    data: NDArray[np.uint8],
    start: int,
    ends: NDArray[np.int64],
    done: int,
    weights: NDArray[np.int64],
    step: int,
    table: NDArray[np.int64],
    arena: NDArray[np.uint8],
    used: NDArray[np.int64],
) -> int:
    """Add `weights[piece * step]` to the words of the pieces from number `done` on.

    Returns the number of the first piece for which there is no room, or `len(ends)`.
    """
    mask = len(table) - 1
    begin = ends[done - 1] if done else start
    for number in range(done, len(ends)):
        end = ends[number]
        length = end - begin
        tag = _tag(data, begin, length)
        slot = _first_slot(tag) & mask
        while table[slot, _LENGTH] != 0 and not (
            table[slot, _TAG] == signed(tag)
            and (
                length < _SHORT
                or (
                    table[slot, _LENGTH] == length
                    and _equal(arena, table[slot, _START], data, begin, length)
                )
            )
        ):
            slot = (slot + 1) & mask
        if table[slot, _LENGTH] == 0:
            needed = used[1] + length + PADDING_BYTES
            if needed > len(arena) or not _has_slot(used[0], len(table)):
                return number
            table[slot, _TAG] = signed(tag)
            table[slot, _START] = used[1]
            table[slot, _LENGTH] = length
            _copy(data, begin, length, arena, used[1])
            used[0] += 1
            used[1] += length
        table[slot, _COUNT] += weights[number * step]
        begin = end
    return len(ends)


@inlined
def _copy(
    source: NDArray[np.uint8],
    source_start: int,
    length: int,
    target: NDArray[np.uint8],
    target_start: int,
) -> None:
    for place in range(length):
        target[target_start + place] = source[source_start + place]


@inlined
def _has_slot(words: int, slots: int) -> bool:
    """At most three slots of four are taken."""
    return 4 * (words + 1) <= 3 * slots


@inlined
def _tag(data: NDArray[np.uint8], start: int, length: int) -> np.uint64:
    """uint64: the word itself if shorter than 8 bytes, else a hash of its 8-byte blocks, of which
    the last two may overlap."""
    size = np.uint64(length)
    if length < _SHORT:
        bits = (_ONE << (size * _BITS_OF_A_BYTE)) - _ONE
        return (load_u64(data, start) & bits) | (size << _LENGTH_SHIFT)
    tag = size
    end = start + length
    while start + 8 <= end:
        tag = (tag ^ load_u64(data, start)) * _MULTIPLIER
        tag ^= tag >> _FOLD_INNER
        start += 8
    tag = (tag ^ load_u64(data, end - 8)) * _MULTIPLIER
    return (tag ^ (tag >> _FOLD_LAST)) | _LONG_TAG


@inlined
def _first_slot(tag: np.uint64) -> int:
    return signed((tag * _MULTIPLIER) >> _SLOT_SHIFT)


@inlined
def _equal(
    left: NDArray[np.uint8],
    left_start: int,
    right: NDArray[np.uint8],
    right_start: int,
    length: int,
) -> bool:
    """Equality of two words of at least 8 bytes."""
    for place in range(0, length - 8, 8):
        if load_u64(left, left_start + place) != load_u64(right, right_start + place):
            return False
    last = length - 8
    return bool(load_u64(left, left_start + last) == load_u64(right, right_start + last))


@compiled
def _rehash(table: NDArray[np.int64], larger: NDArray[np.int64]) -> None:
    mask = len(larger) - 1
    for row in range(len(table)):
        if table[row, _LENGTH] != 0:
            slot = _first_slot(np.uint64(table[row, _TAG])) & mask
            while larger[slot, _LENGTH] != 0:
                slot = (slot + 1) & mask
            larger[slot] = table[row]


@compiled
def _gather(
    arena: NDArray[np.uint8],
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    for row in range(len(rows)):
        _copy(arena, rows[row, _START], rows[row, _LENGTH], out, offsets[row])
