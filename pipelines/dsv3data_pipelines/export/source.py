"""What a unit of an export reads: checked batches of some shards of a token set or a packed set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dsv3data.audit.checks import check_schema
from dsv3data.contracts.manifest import PACKED, FileRecord, Manifest
from dsv3data.contracts.schemas import packed_schema, token_schema
from dsv3data.io.shards import ShardReader


@dataclass(frozen=True, kw_only=True)
class Source:
    """Shards of the set that is exported, and the end-of-sentence id of its tokenizer."""

    folder: Path
    manifest: Manifest
    shards: tuple[FileRecord, ...]
    eos: int

    @property
    def packed(self) -> bool:
        """Whether rows are sequences; else they are documents."""
        return self.manifest.format == PACKED

    @property
    def schema(self) -> pa.Schema:
        """Columns of the shards."""
        if self.packed:
            return packed_schema(int(self.manifest.plan["pack"]["context"]), {})
        return token_schema({})

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The shards' batches in order, each held to its checksum."""
        for record in self.shards:
            reader = ShardReader(self.folder, record)
            check_schema(reader.path, reader.schema, self.schema, self.manifest)
            yield from reader.batches()
