"""Gathering one partition's documents from the token shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dsv3data.audit.checks import check_document_ids, check_schema
from dsv3data.contracts.keys import keys_to_words
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.schemas import token_schema
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.shards import ShardReader
from dsv3data.packing.order import partition_of


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Documents of one domain and partition, in the order of the token shards.

    Attributes:
        keys: 16 bytes each.
        words: the same as uint64 [N, 2].
        values: ids of all documents one after the other, int32; document i is
            values[offsets[i] : offsets[i + 1]].
        offsets: int64 [N + 1].
        n_bytes: UTF-8 bytes of each text, int64 [N].
        source, position: where each document comes from.
    """

    keys: list[bytes]
    words: NDArray[np.uint64]
    values: NDArray[np.int32]
    offsets: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    source: list[str]
    position: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def ids(self, document: int) -> NDArray[np.int32]:
        """Ids of one document, a view."""
        return self.values[self.offsets[document] : self.offsets[document + 1]]


def gather_documents(
    tokens: Path,
    manifest: Manifest,
    vocabulary: Vocabulary,
    *,
    domain: str,
    partition: int,
    n_partitions: int,
    seed: int,
) -> Documents:
    """Read, checked, the documents whose domain and keyed partition are asked for.

    Cost: one sequential pass over the token shards; memory is that of the chosen documents.

    Raises:
        IntegrityError: a shard is damaged, of other columns or of another tokenizer, or an id is
            none of the tokenizer's or a control id.
    """
    chosen: list[pa.RecordBatch] = []
    for path, place, batch in _batches(tokens, manifest):
        of_domain = pc.equal(batch.column("domain"), domain).to_numpy(zero_copy_only=False)
        words = batch_words(batch)
        wanted = of_domain & (partition_of(words, n_partitions, seed=seed) == partition)
        if wanted.any():
            chosen.append(batch.filter(pa.array(wanted)))
            ids = chosen[-1].column("ids").flatten().to_numpy()
            check_document_ids(ids, vocabulary, path, place)
    return _documents(chosen)


def batch_words(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """Keys of a batch of a token shard as uint64 [N, 2]."""
    column = batch.column("key")
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    keys = data.reshape(-1, 16)[column.offset : column.offset + len(column)]
    return keys_to_words(keys)


def _batches(tokens: Path, manifest: Manifest) -> Iterator[tuple[Path, str, pa.RecordBatch]]:
    for record in manifest.shards():
        reader = ShardReader(tokens, record)
        check_schema(reader.path, reader.schema, token_schema({}), manifest)
        for number, batch in enumerate(reader.batches()):
            yield reader.path, f"batch {number}", batch


def _documents(batches: list[pa.RecordBatch]) -> Documents:
    lengths = [pc.list_value_length(batch.column("ids")).to_numpy() for batch in batches]
    counts = np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int64)
    values = [batch.column("ids").flatten().to_numpy() for batch in batches]
    words = [batch_words(batch) for batch in batches]
    return Documents(
        keys=[key for batch in batches for key in batch.column("key").to_pylist()],
        words=np.concatenate(words) if words else np.empty((0, 2), dtype=np.uint64),
        values=np.concatenate(values) if values else np.empty(0, dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
        n_bytes=_column(batches, "n_bytes"),
        source=[name for batch in batches for name in batch.column("source").to_pylist()],
        position=_column(batches, "position"),
    )


def _column(batches: list[pa.RecordBatch], name: str) -> NDArray[np.int64]:
    parts = [batch.column(name).to_numpy() for batch in batches]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
