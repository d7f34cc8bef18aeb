"""Random access to the rows of a packed set, each verified when it is read.

A row costs one `pread` at an offset known from the manifest, and its CRC-32 is checked on the bytes
that are returned. The other columns are read once per record batch and held to the batch's
checksum in the manifest: that of the ids between them follows from the rows' CRCs (`crc.py`), so
the ids themselves need not be read. Every byte that a caller sees is thus covered. Files are read,
not mapped: one that is cut while in use gives an error instead of a bus error.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import PACKED, TOKENIZER_NAME, FileRecord, Manifest, Segment
from dsv3data.contracts.schemas import column_differences, packed_schema
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.checksums import crc32
from dsv3data.io.columns import column_values
from dsv3data.io.manifest_file import REBUILD, REMAKE, read_manifest
from dsv3data.io.shards import ShardReader
from dsv3data.loader.crc import combine, combine_equal
from dsv3data.loader.schedule import Domain

# Columns other than the ids that are kept in memory; they are about 0.3 % of a set's bytes.
_INDEX_BUDGET_BYTES = 256 << 20
# Shards held open: far below the usual limit of 1,024 descriptors.
_OPEN_SHARDS = 64
# What is known of a row besides its ids; its pieces' lengths stand in a list of its record batch.
_ROW = np.dtype(
    [
        *(("crc32", np.uint32), ("n_tokens", np.int32), ("domain_id", np.int32)),
        *(("first_piece", np.int32), ("stop_piece", np.int32)),
    ],
    align=True,
)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """n rows of L ids.

    Attributes:
        input_ids: int32 [n, L].
        n_tokens: ids before the padding, int32 [n].
        domain_ids: index into the dataset's `domains`, int32 [n].
        row_ids: the rows' numbers in the set, int64 [n].
        piece_lengths: for each row the lengths of its pieces, int32; they add up to n_tokens.
    """

    input_ids: NDArray[np.int32]
    n_tokens: NDArray[np.int32]
    domain_ids: NDArray[np.int32]
    row_ids: NDArray[np.int64]
    piece_lengths: list[NDArray[np.int32]]


class ShardStore(Protocol):
    """Where shards come from."""

    def open(self, record: FileRecord) -> FileIO:
        """The shard as an unbuffered open file; `FileNotFoundError` if there is none."""


@dataclass(frozen=True)
class LocalShards:
    """Shards in a folder of this machine."""

    folder: Path

    def open(self, record: FileRecord) -> FileIO:
        """See `ShardStore`."""
        return (self.folder / record.name).open("rb", buffering=0)


class PackedDataset:
    """The rows of a finished packed set, numbered over its shards in the manifest's order.

    Threads may share one; they take turns.

    Attributes:
        manifest, vocabulary: of the set.
        context: ids in a row, L.
        n_rows: rows in all shards.
        vocab_size: embedding rows that the ids need, a multiple of 128; ids stay below the
            tokenizer's own, smaller size.
        pad_id, eos_id: control ids.
        root: the set's root hash.
        tokenizer_sha256: hash of the tokenizer.json that made the ids.
        domains: names of the domains, sorted.
        token_bytes: bytes that each id decodes to, int32 [vocab_size]; 0 for control ids.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, vocabulary: Vocabulary, store: ShardStore
    ) -> None:
        self.folder = folder
        self._store = store
        self.manifest, self.vocabulary = manifest, vocabulary
        self._shards = manifest.shards()
        self._first_row = _starts(self._shards)
        # Record batches of all shards, numbered as parts: (shard, batch in it), and first rows.
        self._parts = [
            (number, batch)
            for number, record in enumerate(self._shards)
            for batch in range(len(record.segments) - 2)
        ]
        self._first_row_of_part = _starts(
            [segment for record in self._shards for segment in record.segments[1:-1]]
        )
        self._index: OrderedDict[tuple[int, int], _BatchIndex] = OrderedDict()
        self._index_bytes = 0
        self._open: OrderedDict[int, FileIO] = OrderedDict()
        self._checked: set[int] = set()
        self._lock = threading.Lock()
        self.context = int(manifest.plan["pack"]["context"])
        self.n_rows = int(self._first_row[-1])
        self.vocab_size = vocabulary.embedding_rows
        self.pad_id, self.eos_id = vocabulary.control.pad, vocabulary.control.eos
        self.root = manifest.root
        self.tokenizer_sha256 = vocabulary.sha256
        self.domains = tuple(sorted(manifest.counts.get("domains", {})))
        self.token_bytes = vocabulary.byte_lengths

    @classmethod
    def open(cls, path: Path, *, store: ShardStore | None = None) -> PackedDataset:
        """Open a packed set after checking the manifest and every shard's size and columns.

        Args:
            store: where shards come from if not from `path`; they are looked at when they come.

        Raises:
            BadInput: not a finished packed set.
            IntegrityError: damaged manifest or schema; a shard that is missing, cut, of another
                type or of another tokenizer.
        """
        manifest = read_manifest(path, expect=(PACKED,))
        vocabulary = load_vocabulary(path / TOKENIZER_NAME)
        if vocabulary.sha256 != manifest.tokenizer.sha256:
            raise _damaged(
                f"the tokenizer has hash {vocabulary.sha256[:16]}…, the manifest says "
                f"{manifest.tokenizer.sha256[:16]}…",
                str(path / TOKENIZER_NAME),
                "ids would stand for other text",
            )
        dataset = cls(path, manifest, vocabulary, store or LocalShards(path))
        if store is None:
            for shard in range(len(dataset._shards)):
                dataset._check_header(shard)
        return dataset

    def __reduce__(self) -> tuple[object, ...]:
        # For spawned workers: the same set, with nothing read yet.
        return PackedDataset, (self.folder, self.manifest, self.vocabulary, self._store)

    def rows(self, indices: NDArray[np.integer]) -> Batch:
        """The rows with these numbers, in this order; a number may occur again.

        Cost: one read and one CRC per row, in the order of the files; some ms the first time that a
        record batch is touched; a shard stays open until others take its place.
        `benchmarks/loader.py` measures it.

        Raises:
            IndexError: a number outside 0..n_rows-1.
            IntegrityError: naming the file and the record batch.
        """
        count = len(indices)
        if count and not (indices.min() >= 0 and indices.max() < self.n_rows):
            raise IndexError(
                f"rows must be in 0..{self.n_rows - 1}, not {indices.min()}..{indices.max()}"
            )
        # Sorted, rows of one record batch stand together, and files are read forwards.
        order = np.argsort(indices, kind="stable")
        numbers = indices[order]
        parts = np.searchsorted(self._first_row_of_part, numbers, side="right") - 1
        borders = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), count] if count else []
        read = _Read.of(count, self.context)
        with self._lock:
            for start, stop in itertools.pairwise(borders):
                part = int(parts[start])
                self._read_rows(part, numbers[start:stop], read, order[start:stop])
        self._check_rows(read, indices)
        return Batch(
            input_ids=read.ids,
            n_tokens=read.facts["n_tokens"].copy(),
            domain_ids=read.facts["domain_id"].copy(),
            row_ids=np.array(indices, dtype=np.int64),
            piece_lengths=read.piece_lengths,
        )

    def domain_sizes(self) -> dict[str, Domain]:
        """Rows of each domain, and the tokens that a row of it holds on average."""
        counts = self.manifest.counts["domains"]
        return {
            name: Domain(
                rows=int(starts[-1]),
                tokens_per_row=Fraction(counts[name]["row_ids"], int(starts[-1])),
            )
            for name, (_, starts) in self._shards_of.items()
            if name in counts
        }

    def rows_of(self, domain: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of rows within a domain → their numbers in the set, both int64 [N]."""
        shards, starts = self._shards_of[domain]
        which = np.searchsorted(starts, numbers, side="right") - 1
        rows: NDArray[np.int64] = self._first_row[shards[which]] + numbers - starts[which]
        return rows

    @functools.cached_property
    def _shards_of(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Shards of each domain and the first rows of each within the domain.

        Their names state the domain: packed-DOMAIN-NUMBER.arrow.
        """
        numbers: dict[str, list[int]] = {}
        for number, record in enumerate(self._shards):
            domain = record.name.removeprefix("packed-").rpartition("-")[0]
            numbers.setdefault(domain, []).append(number)
        return {
            domain: (np.array(of_domain), _starts([self._shards[number] for number in of_domain]))
            for domain, of_domain in numbers.items()
        }

    def _read_rows(
        self, part: int, numbers: NDArray[np.integer], read: _Read, places: NDArray[np.int64]
    ) -> None:
        """Read some rows of one record batch, whatever they hold, into `places` of `read`."""
        shard, number = self._parts[part]
        file = self._open_shard(shard)
        first = int(self._first_row_of_part[part])
        index = self._batch_index(file, shard, number, first - int(self._first_row[shard]))
        local = numbers - first
        facts = index.rows[local]
        read.facts[places] = facts
        row_bytes = 4 * self.context
        for place, row, start, stop in zip(
            places.tolist(),
            local.tolist(),
            facts["first_piece"].tolist(),
            facts["stop_piece"].tolist(),
            strict=True,
        ):
            memory = read.memory[place * row_bytes : (place + 1) * row_bytes]
            done = os.preadv(file, [memory], index.ids_offset + row * row_bytes)
            if done != row_bytes:
                raise _cut(row_bytes - done, self._place(shard, number))
            read.crcs[place] = crc32(memory)
            read.piece_lengths[place] = index.piece_lengths[start:stop]

    def _check_rows(self, read: _Read, numbers: NDArray[np.integer]) -> None:
        """Every row matches its checksum, and every id is one of the tokenizer's, whatever the
        checksums say."""
        wrong = np.flatnonzero(np.array(read.crcs, dtype=np.uint32) != read.facts["crc32"])
        if len(wrong):
            row, where = self._row_in_shard(int(numbers[wrong].min()))
            raise _damaged(f"row {row} does not match its checksum", where, "the row was not used")
        # As unsigned numbers, negative ids are large.
        highest = read.ids.view(np.uint32).max(axis=1)
        wrong = np.flatnonzero(highest >= self.vocabulary.vocab_size)
        if len(wrong):
            row, where = self._row_in_shard(int(numbers[wrong].min()))
            raise _damaged(
                f"row {row} holds an id outside 0..{self.vocabulary.vocab_size - 1}",
                where,
                "it stands for no token of this tokenizer",
            )

    def _row_in_shard(self, row: int) -> tuple[int, str]:
        """A row's number in its shard, and the place of its record batch for an error."""
        part = int(np.searchsorted(self._first_row_of_part, row, side="right")) - 1
        shard, number = self._parts[part]
        return row - int(self._first_row[shard]), self._place(shard, number)

    def _open_shard(self, shard: int) -> int:
        """Descriptor of a shard that has its size, opened if it was not used recently."""
        record = self._shards[shard]
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            try:
                self._open[shard] = self._store.open(record)
            except FileNotFoundError as error:
                raise _damaged(
                    "a shard that the manifest lists is missing",
                    str(self.folder / record.name),
                    "its rows are lost",
                ) from error
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        descriptor = self._open[shard].fileno()
        _check_open_size(descriptor, self.folder, record)
        if shard not in self._checked:
            self._check_header(shard)
        return descriptor

    def _batch_index(self, file: int, shard: int, number: int, first_row: int) -> _BatchIndex:
        """The verified small columns of a record batch, from memory if it was used recently."""
        key = (shard, number)
        if key in self._index:
            self._index.move_to_end(key)
            return self._index[key]
        segment = self._shards[shard].segments[number + 1]
        where = self._place(shard, number)
        self._index[key] = index = self._load_index(file, segment, first_row, where)
        self._index_bytes += index.size_bytes
        while self._index_bytes > _INDEX_BUDGET_BYTES and len(self._index) > 1:
            self._index_bytes -= self._index.popitem(last=False)[1].size_bytes
        return index

    def _load_index(self, file: int, segment: Segment, first_row: int, where: str) -> _BatchIndex:
        message = self._read_around_ids(file, segment, where)
        schema = packed_schema(self.context, {})
        columns = pa.ipc.read_record_batch(pa.py_buffer(message), schema)
        lengths = columns.column("piece_lengths")
        domains = columns.column("domain").dictionary_encode()
        offsets = column_values(lengths.offsets, np.int32)
        rows = np.empty(segment.rows, dtype=_ROW)
        rows["crc32"] = column_values(columns.column("crc32"), np.uint32)
        rows["n_tokens"] = column_values(columns.column("n_tokens"), np.int32)
        rows["domain_id"] = self._domain_ids(domains, where)
        rows["first_piece"] = offsets[:-1] - offsets[0]
        rows["stop_piece"] = offsets[1:] - offsets[0]
        index = _BatchIndex(
            ids_offset=segment.buffers["input_ids"],
            rows=rows,
            piece_lengths=column_values(lengths.flatten(), np.int32).copy(),
        )
        self._check_index(index, column_values(columns.column("row"), np.int64), first_row, where)
        return index

    def _read_around_ids(self, file: int, segment: Segment, where: str) -> NDArray[np.uint8]:
        """A record batch message with zeros for the ids, verified without them.

        The zeros are memory that is never touched.
        """
        start = segment.buffers["input_ids"] - segment.offset
        row_bytes = 4 * self.context
        stop = start + segment.rows * row_bytes
        message = np.zeros(segment.size, dtype=np.uint8)
        head, tail = message[:start], message[stop:]
        _read_exactly(file, head, segment.offset, where)
        _read_exactly(file, tail, segment.offset + stop, where)
        crc_start = segment.buffers["crc32"] - segment.offset
        row_crcs = message[crc_start : crc_start + 4 * segment.rows].view(np.uint32)
        crc = combine(crc32(head.data), combine_equal(row_crcs, row_bytes), stop - start)
        if combine(crc, crc32(tail.data), len(tail)) != segment.crc32:
            raise _damaged(
                "the batch does not match its checksum",
                where,
                f"its {segment.rows:,} rows were not read",
            )
        return message

    def _domain_ids(self, column: pa.DictionaryArray, where: str) -> NDArray[np.int32]:
        names = column.dictionary.to_pylist()
        unknown = [name for name in names if name not in self.domains]
        if unknown:
            raise _damaged(
                f"rows of domain {unknown[0]!r}, which the manifest does not count",
                where,
                "the mixture would not be what the manifest says",
            )
        table = np.array([self.domains.index(name) for name in names], dtype=np.int32)
        ids: NDArray[np.int32] = table[column_values(column.indices, np.int32)]
        return ids

    def _check_index(
        self, index: _BatchIndex, row: NDArray[np.int64], first_row: int, where: str
    ) -> None:
        """What any writer of this format must keep, whatever the checksums say."""
        ends = np.concatenate([[0], np.cumsum(index.piece_lengths, dtype=np.int64)])
        sums = ends[index.rows["stop_piece"]] - ends[index.rows["first_piece"]]
        n_tokens = index.rows["n_tokens"]
        rows = first_row + np.arange(len(sums))
        for fault, wrong in (
            ("n_tokens is outside 1..L", (n_tokens < 1) | (n_tokens > self.context)),
            ("piece lengths do not add up to n_tokens", sums != n_tokens),
            ("the column `row` does not count the rows", row != rows),
        ):
            if wrong.any():
                raise _damaged(
                    f"row {rows[wrong.argmax()]}: {fault}", where, "its rows were not read"
                )

    def _check_header(self, shard: int) -> None:
        """A shard's size and schema, once."""
        self._check_schema(ShardReader(self.folder, self._shards[shard]))
        self._checked.add(shard)

    def _check_schema(self, reader: ShardReader) -> None:
        different = column_differences(reader.schema, packed_schema(self.context, {}))
        if different:
            raise IntegrityError(
                f"other columns than a packed set of context {self.context} has: {different}",
                where=str(reader.path),
                effect="nothing was read",
                fix=REMAKE,
            )
        tokenizer = (reader.schema.metadata or {}).get(b"tokenizer_sha256", b"").decode()
        if tokenizer != self.tokenizer_sha256:
            raise _damaged(
                f"the shard's ids are those of tokenizer {tokenizer[:16]}…, the set's tokenizer "
                f"is {self.tokenizer_sha256[:16]}…",
                str(reader.path),
                "ids would stand for other text",
            )

    def _place(self, shard: int, number: int) -> str:
        return f"{self.folder / self._shards[shard].name}, batch {number}"


@dataclass(frozen=True, kw_only=True)
class _BatchIndex:
    """A record batch without its ids: their offset in the file, its rows [_ROW], and the lengths
    of all their pieces, int32."""

    ids_offset: int
    rows: NDArray[np.void]
    piece_lengths: NDArray[np.int32]

    @property
    def size_bytes(self) -> int:
        return self.rows.nbytes + self.piece_lengths.nbytes


@dataclass(frozen=True, kw_only=True)
class _Read:
    """Rows on their way into a batch: ids [n, L], their memory, CRC-32 of each row, what is known
    of it [n, _ROW], and its pieces' lengths."""

    ids: NDArray[np.int32]
    memory: memoryview
    crcs: list[int]
    facts: NDArray[np.void]
    piece_lengths: list[NDArray[np.int32]]

    @classmethod
    def of(cls, count: int, context: int) -> _Read:
        ids = np.empty((count, context), dtype=np.int32)
        return cls(
            ids=ids,
            memory=ids.reshape(-1).view(np.uint8).data,
            crcs=[0] * count,
            facts=np.empty(count, dtype=_ROW),
            piece_lengths=[np.empty(0, dtype=np.int32)] * count,
        )


def _starts(parts: Sequence[FileRecord | Segment]) -> NDArray[np.int64]:
    """First row of each part and, last, the number of rows, int64 [N + 1]."""
    return np.concatenate([[0], np.cumsum([part.rows for part in parts])]).astype(np.int64)


def _read_exactly(file: int, target: NDArray[np.uint8], offset: int, where: str) -> None:
    """Fill `target` from the file at `offset`."""
    done = os.preadv(file, [target.data], offset) if len(target) else 0
    if done != len(target):
        raise _cut(len(target) - done, where)


def _check_open_size(file: int, folder: Path, record: FileRecord) -> None:
    size = os.fstat(file).st_size
    if size != record.size:
        raise _damaged(
            f"the file has {size:,} bytes, the manifest says {record.size:,}",
            str(folder / record.name),
            "rows are missing or foreign",
        )


def _cut(missing: int, where: str) -> IntegrityError:
    return _damaged(
        f"the file ends {missing:,} bytes too early", where, "the rows behind its end are lost"
    )


def _damaged(what: str, where: str, effect: str) -> IntegrityError:
    return IntegrityError(what, where=where, effect=effect, fix=REBUILD)
