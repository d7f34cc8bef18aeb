"""One Parquet file for each shard, with its columns but for the rows' checksums."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import atomic_writer
from dsv3data_pipelines.export.source import Source

# Means something only for the bytes of our own shards.
_LEFT_OUT = "crc32"


def write_parquet(source: Source, path: Path, sink: Sink) -> None:
    """Zstandard, page checksums on.

    A packed row has `input_ids`, `n_tokens`, `piece_lengths` (the borders of documents),
    `piece_flags`, `domain`, `partition`, `row`; a document what the token shard says of it.
    """
    names = [name for name in source.schema.names if name != _LEFT_OUT]
    schema = pa.schema([source.schema.field(name) for name in names])
    with (
        atomic_writer(path) as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in source.batches():
            writer.write_batch(batch.select(names).replace_schema_metadata(None))
            sink.advance(batch.num_rows)
