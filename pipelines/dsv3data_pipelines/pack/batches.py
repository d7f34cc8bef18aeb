"""The batches of a token set, and their columns as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.audit.checks import check_schema, fail
from dsv3data.contracts.keys import keys_to_words
from dsv3data.contracts.manifest import FileRecord, Manifest, Segment
from dsv3data.contracts.schemas import token_schema
from dsv3data.io.columns import column_values, key_bytes, list_lengths
from dsv3data.io.shards import ShardReader


@dataclass(frozen=True)
class TokenBatch:
    """A batch of a token shard, and where it stands."""

    path: Path
    place: str
    segment: Segment
    batch: pa.RecordBatch


def token_batches(tokens: Path, manifest: Manifest) -> Iterator[TokenBatch]:
    """All batches of a token set, checked against their checksums."""
    for record in manifest.shards():
        yield from shard_batches(tokens, manifest, record)


def shard_batches(tokens: Path, manifest: Manifest, record: FileRecord) -> Iterator[TokenBatch]:
    """All batches of one token shard, checked against their checksums."""
    reader = ShardReader(tokens, record)
    check_schema(reader.path, reader.schema, token_schema({}), manifest)
    for number, batch in enumerate(reader.batches()):
        yield TokenBatch(reader.path, f"batch {number}", record.segments[number + 1], batch)


def unchecked_batches(tokens: Path, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    """All batches of a token set, mapped: only columns that are looked at are read from disk.

    For forecasts and look-ups; nothing is checked but the size of the files.

    Raises:
        IntegrityError: a shard is missing, has another size or cannot be read.
    """
    for record in manifest.shards():
        reader = ShardReader(tokens, record)
        check_schema(reader.path, reader.schema, token_schema({}), manifest)
        try:
            with pa.memory_map(str(reader.path)) as file:
                yield from pa.ipc.open_stream(file)
        except (pa.ArrowException, OSError) as error:
            fail(f"the shard cannot be read: {str(error).splitlines()[0]}", reader.path)


def batch_words(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """Keys of a batch of a token shard as uint64 [N, 2]."""
    return keys_to_words(key_bytes(batch.column("key")))


def batch_ids(batch: pa.RecordBatch) -> NDArray[np.int32]:
    """Ids of a batch of a token shard, one document after the other, a view."""
    return column_values(batch.column("ids").flatten(), np.int32)


def batch_lengths(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Ids of each document of a batch, int64 [N]."""
    return list_lengths(batch.column("ids"))
