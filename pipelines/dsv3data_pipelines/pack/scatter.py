"""One sequential pass over the token shards that gives every unit its documents.

Documents are collected in memory, grouped by unit, and written to a working file whenever the
buffer is full; a unit then reads its own slices. Reads and writes are sequential whatever the
number of partitions, each id is read once and written once, and memory is that of the buffer. A
batch that belongs to one unit as a whole is not written again. What a unit gets, and its hash, do
not depend on the size of the buffer.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.audit.checks import check_document_ids, fail
from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.contracts.schemas import token_schema
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.atomic import environment_faults, write_atomic
from dsv3data.io.checksums import crc32
from dsv3data.io.columns import column_values
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.make_columns import column_of
from dsv3data.io.sealed import read_sealed, seal
from dsv3data.packing.sorting import argsort_small
from dsv3data_pipelines.pack.batches import (
    TokenBatch,
    batch_ids,
    batch_lengths,
    batch_words,
    token_batches,
)
from dsv3data_pipelines.pack.documents import Documents, documents_of
from dsv3data_pipelines.pack.exclude import Exclusions
from dsv3data_pipelines.pack.memory import give_back_memory
from dsv3data_pipelines.pack.partitions import Partitions

# What is in memory beside the buffer, measured (benchmarks/pack_memory.py): the process, a batch of
# a token shard, and, while the buffer is written, half as much as it holds.
_BASE_BYTES = 240 << 20
_BYTES_PER_BUFFERED = 1.5
_LEAST_BUFFER = 16 << 20
_SHARES_NAME = "documents.json"


@dataclass(frozen=True)
class Slice:
    """A run of bytes of a working file or of a token shard: one Arrow message with documents of one
    unit."""

    path: Path
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """The documents of one unit.

    Attributes:
        sha256: of all that the unit reads of them.
        slices: where they are, in the order of the token shards.
    """

    sha256: str
    documents: int
    tokens: int
    slices: tuple[Slice, ...] = ()


@contextmanager
def scattered(
    tokens: Path,
    manifest: Manifest,
    vocabulary: Vocabulary,
    *,
    partitions: Partitions,
    kept: Collection[int],
    exclusions: Exclusions,
    folder: Path,
    memory_bytes: int,
    sink: Sink,
) -> Iterator[Mapping[int, Share]]:
    """Shares of all units; only those in `kept` get slices. The working files end with the block.

    Raises:
        IntegrityError: a shard is damaged, of other columns or of another tokenizer, or an id is
            none of the tokenizer's or a control id.
        EnvironmentFault: no room for the working files, which are as large as the token set.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    with environment_faults(folder):
        folder.mkdir(parents=True)
    try:
        yield group(
            _watched(token_batches(tokens, manifest), sink),
            vocabulary,
            partitions=partitions,
            kept=kept,
            exclusions=exclusions,
            folder=folder,
            buffer_bytes=max(
                int((memory_bytes - _BASE_BYTES) / _BYTES_PER_BUFFERED), _LEAST_BUFFER
            ),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def group(
    batches: Iterable[TokenBatch],
    vocabulary: Vocabulary,
    *,
    partitions: Partitions,
    kept: Collection[int],
    exclusions: Exclusions,
    folder: Path,
    buffer_bytes: int,
) -> dict[int, Share]:
    """Shares of all units from batches of token shards, with working files in `folder`."""
    buffer = _Buffer(folder, len(partitions), set(kept))
    for found in batches:
        batch = found.batch
        check_document_ids(batch_ids(batch), vocabulary, found.path, found.place)
        words = batch_words(batch)
        units = partitions.units_of(batch.column("domain"), words)
        units[exclusions.mask(batch, words)] = -1
        buffer.add(found, units)
        if buffer.size > buffer_bytes:
            buffer.flush()
    buffer.flush()
    return {unit: open_share.closed() for unit, open_share in enumerate(buffer.shares)}


def _watched(batches: Iterable[TokenBatch], sink: Sink) -> Iterator[TokenBatch]:
    for found in batches:
        yield found
        sink.advance(len(batch_ids(found.batch)))


def read_slices(slices: Sequence[Slice]) -> Documents:
    """The documents of a unit, checked.

    Raises:
        IntegrityError: a working file or a token shard is no longer what was read before.
    """
    schema = token_schema({})
    batches = []
    for piece in slices:
        with pa.memory_map(str(piece.path)) as file:
            file.seek(piece.offset)
            buffer = file.read_buffer(piece.size)
        if crc32(buffer) != piece.crc32:
            fail("documents changed while they were packed", piece.path, f"byte {piece.offset:,}")
        batches.append(pa.ipc.read_record_batch(buffer, schema))
    return documents_of(batches)


def note_shares(out: Path, of: str, shares: Mapping[int, Share]) -> None:
    """Remember the hashes, so that a finished command that is run again reads no token."""
    tree = {
        "of": of,
        "shares": [
            [share.sha256, share.documents, share.tokens] for _, share in sorted(shares.items())
        ],
    }
    write_atomic(out / WORK_FOLDER / _SHARES_NAME, seal(tree))


def known_shares(out: Path, of: str) -> dict[int, Share] | None:
    """What `note_shares` remembered for the same documents; None if it did not."""
    try:
        tree = read_sealed(out / WORK_FOLDER / _SHARES_NAME, fix="")
    except (FileNotFoundError, IntegrityError):
        return None
    if tree["of"] != of:
        return None
    return {
        number: Share(sha256=sha256, documents=documents, tokens=tokens)
        for number, (sha256, documents, tokens) in enumerate(tree["shares"])
    }


@dataclass
class _OpenShare:
    """A share that grows. Columns are hashed apart, so that batch borders do not matter."""

    documents: int = 0
    tokens: int = 0
    slices: list[Slice] = field(default_factory=list)
    hashes: dict[str, Any] = field(default_factory=dict)

    def take_in(self, batch: pa.RecordBatch) -> None:
        lengths, values = batch_lengths(batch), batch_ids(batch)
        self.documents += len(lengths)
        self.tokens += len(values)
        sources = "\0".join([*batch.column("source").to_pylist(), ""])
        columns: dict[str, Any] = {
            "key": np.ascontiguousarray(batch_words(batch)),
            "source": sources.encode("utf-8", "surrogateescape"),
            "position": column_values(batch.column("position"), np.int64),
            "n_bytes": column_values(batch.column("n_bytes"), np.int64),
            "lengths": lengths,
            "ids": values,
        }
        for name, data in columns.items():
            self.hashes.setdefault(name, hashlib.sha256()).update(data)

    def closed(self) -> Share:
        parts = [f"{name} {made.hexdigest()}\n" for name, made in self.hashes.items()]
        return Share(
            sha256=hashlib.sha256("".join(parts).encode()).hexdigest(),
            documents=self.documents,
            tokens=self.tokens,
            slices=tuple(self.slices),
        )


class _Buffer:
    """Batches grouped by unit, until they are written."""

    def __init__(self, folder: Path, n_units: int, kept: set[int]) -> None:
        self.size = 0
        self.shares = [_OpenShare() for _ in range(n_units)]
        self._folder = folder
        self._kept = kept
        self._runs: dict[int, list[pa.RecordBatch]] = {}
        self._files = 0

    def add(self, found: TokenBatch, units: NDArray[np.int64]) -> None:
        """Group a batch; documents of unit -1 are left out.

        A batch of one unit, nothing of which waits here, is left where it is.
        """
        present = np.flatnonzero(np.bincount(units + 1, minlength=len(self.shares) + 1)[1:])
        if len(present) == 1 and (units >= 0).all() and int(present[0]) not in self._runs:
            share = self.shares[int(present[0])]
            share.take_in(found.batch)
            segment = found.segment
            share.slices.append(Slice(found.path, segment.offset, segment.size, segment.crc32))
            return
        for unit, run in _grouped(found.batch, units, present):
            self.shares[unit].take_in(run)
            if unit in self._kept:
                self._runs.setdefault(unit, []).append(run)
                self.size += run.nbytes

    def flush(self) -> None:
        """Write what is there to a file of its own, unit after unit."""
        if not self._runs:
            return
        path = self._folder / f"{self._files:05d}"
        with environment_faults(path), path.open("wb") as file:
            for unit in sorted(self._runs):
                message = _joined(self._runs.pop(unit)).serialize()
                offset = file.tell()
                file.write(message)
                made = Slice(path, offset, message.size, crc32(message))
                self.shares[unit].slices.append(made)
        self._files += 1
        self.size = 0
        give_back_memory()


def _grouped(
    batch: pa.RecordBatch, units: NDArray[np.int64], present: NDArray[np.int64]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The documents of each unit, in their order."""
    order = argsort_small(units + 1, int(units.max(initial=0)) + 1)
    sorted_units = units[order]
    starts = np.searchsorted(sorted_units, present)
    stops = np.searchsorted(sorted_units, present, side="right")
    for unit, start, stop in zip(present.tolist(), starts, stops, strict=True):
        yield unit, _taken(batch, order[start:stop])


def _taken(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Some rows. Arrow's own `take` moves lists element by element: 40 ns an id against 1."""
    values, lengths = batch_ids(batch), batch_lengths(batch)
    stops = np.cumsum(lengths)
    places = zip((stops - lengths)[rows].tolist(), stops[rows].tolist(), strict=True)
    ids = pa.LargeListArray.from_arrays(
        column_of(np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64)),
        column_of(np.concatenate([values[start:stop] for start, stop in places])),
        type=batch.schema.field("ids").type,
    )
    others = batch.drop_columns(["ids"]).take(column_of(rows))
    return others.append_column(batch.schema.field("ids"), ids)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    (joined,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return joined
