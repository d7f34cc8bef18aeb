"""What an export reads: checked batches of a token set or a packed set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dsv3data.audit.checks import check_schema
from dsv3data.contracts.manifest import PACKED, TOKENIZER_NAME, FileRecord, Manifest
from dsv3data.contracts.schemas import packed_schema, token_schema
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.shards import ShardReader


@dataclass(frozen=True, kw_only=True)
class Source:
    """The set that is exported.

    Attributes:
        shards: for each shard its name without suffix, its rows, and its checked batches.
    """

    manifest: Manifest
    vocabulary: Vocabulary
    schema: pa.Schema
    shards: Sequence[tuple[str, int, Iterator[pa.RecordBatch]]]


def open_source(folder: Path, manifest: Manifest) -> Source:
    """Nothing is read before the batches are asked for."""
    packed = manifest.format == PACKED
    schema = (
        packed_schema(int(manifest.plan["pack"]["context"]), {}) if packed else token_schema({})
    )
    return Source(
        manifest=manifest,
        vocabulary=load_vocabulary(folder / TOKENIZER_NAME),
        schema=schema,
        shards=[
            (
                record.name.removesuffix(".arrow"),
                record.rows,
                _batches(folder, record, manifest, schema),
            )
            for record in manifest.shards()
        ],
    )


def _batches(
    folder: Path, record: FileRecord, manifest: Manifest, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The shard's batches, each held to its checksum."""
    reader = ShardReader(folder, record)
    check_schema(reader.path, reader.schema, schema, manifest)
    yield from reader.batches()
