"""Arrow shards: written segment by segment with checksums, read back only when these match.

A shard is an Arrow IPC *stream*: schema message, record batches, end mark. Arrow itself has no
checksum (a flipped bit reads back silently) and no reader notices a stream cut at a batch border,
so every segment's CRC-32, and the file's size and SHA-256, are in the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import FileRecord, Segment
from dsv3data.io.atomic import atomic_writer, start_writing
from dsv3data.io.checksums import crc32
from dsv3data.io.manifest_file import REBUILD, check_size

_END_MARK = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # continuation marker and a zero length


class ShardWriter:
    """Appends record batches to an open shard; use `shard_writer`.

    Args:
        fixed_width: columns whose value offsets each segment records.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema, fixed_width: Sequence[str] = ()) -> None:
        self._file = file
        self._schema = schema
        self._fixed_width = tuple(fixed_width)
        self._digest = hashlib.sha256()
        self._segments: list[Segment] = []
        self.size = 0
        self.rows = 0
        self._append(schema.serialize(), rows=0)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append one batch of the shard's schema; empty batches are not written."""
        if batch.num_rows == 0:
            return
        message = batch.serialize()
        offsets = _value_offsets(message, self._schema, self._fixed_width)
        buffers = {name: self.size + offset for name, offset in offsets.items()}
        self._append(message, rows=batch.num_rows, buffers=buffers)
        self.rows += batch.num_rows

    def _append(self, data: Any, *, rows: int, buffers: dict[str, int] | None = None) -> None:
        view = memoryview(data)
        self._file.write(view)
        start_writing(self._file, self.size, view.nbytes)
        self._digest.update(view)
        segment = Segment(
            offset=self.size,
            size=view.nbytes,
            crc32=crc32(view),
            rows=rows,
            buffers=buffers or {},
        )
        self._segments.append(segment)
        self.size += view.nbytes

    def finish(self, name: str) -> FileRecord:
        """Write the end mark and describe the shard."""
        self._append(_END_MARK, rows=0)
        return FileRecord(
            name=name,
            size=self.size,
            sha256=self._digest.hexdigest(),
            rows=self.rows,
            segments=tuple(self._segments),
        )


@contextmanager
def shard_writer(
    path: Path, schema: pa.Schema, records: list[FileRecord], fixed_width: Sequence[str] = ()
) -> Iterator[ShardWriter]:
    """A shard that is published as `path` when the block ends; its record goes to `records`."""
    with atomic_writer(path) as file:
        writer = ShardWriter(file, schema, fixed_width)
        yield writer
        record = writer.finish(path.name)
    records.append(record)


class ShardReader:
    """Verified, zero-copy reading of a shard that a manifest describes.

    Opening checks the size (so that a mapped read cannot fault) and the schema's checksum; each
    batch is checked when it is read, the end mark when the last one was.

    Raises:
        IntegrityError: naming the file and the batch.
    """

    def __init__(self, folder: Path, record: FileRecord) -> None:
        self.path = folder / record.name
        self.record = record
        if not self.path.is_file():
            raise IntegrityError(
                "a shard that the manifest lists is missing",
                where=str(self.path),
                effect="the data set is incomplete",
                fix=REBUILD,
            )
        check_size(self.path, record)
        self._map = pa.memory_map(str(self.path))
        self.schema = pa.ipc.read_schema(self._segment(0))

    @property
    def n_batches(self) -> int:
        """Number of record batches."""
        return len(self.record.segments) - 2

    def batch(self, number: int) -> pa.RecordBatch:
        """Batch `number`, checked; its buffers point into the mapped file."""
        return pa.ipc.read_record_batch(self._segment(number + 1), self.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All batches in order."""
        for number in range(self.n_batches):
            yield self.batch(number)
        self._segment(self.n_batches + 1)

    def _segment(self, number: int) -> pa.Buffer:
        segment = self.record.segments[number]
        self._map.seek(segment.offset)
        buffer = self._map.read_buffer(segment.size)  # a view of the map, not a copy
        if buffer.size != segment.size or crc32(buffer) != segment.crc32:
            raise IntegrityError(
                f"{self._describe(number)} does not match its checksum",
                where=f"{self.path}, bytes {segment.offset:,} to {segment.offset + segment.size:,}",
                effect=f"its {segment.rows:,} rows were not read",
                fix=REBUILD,
            )
        return buffer

    def _describe(self, number: int) -> str:
        if number == 0:
            return "the schema"
        if number == len(self.record.segments) - 1:
            return "the end mark"
        return f"batch {number - 1}"


def _value_offsets(message: pa.Buffer, schema: pa.Schema, names: Sequence[str]) -> dict[str, int]:
    """Offset of the value buffer of fixed-width columns inside a serialized batch message."""
    if not names:
        return {}
    batch = pa.ipc.read_record_batch(message, schema)  # zero-copy: buffers point into `message`
    offsets = {}
    for name in names:
        column = batch.column(name)
        values = column.values if pa.types.is_fixed_size_list(column.type) else column
        offsets[name] = values.buffers()[1].address - message.address
    return offsets
